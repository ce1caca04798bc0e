"""A member of a consumer group: records in batches to a function, and their offsets committed after it.

To scale, start the same program again: the group shares the partitions among its members. What holds, whatever
happens, is in `ingest/README.md`; `consume` is all that a program needs.
"""

from collections.abc import Callable, Collection
from typing import Any

from confluent_kafka import Consumer

from ingest import kafka
from ingest.consumer_metrics import Account, ConsumerMetrics
from ingest.consumer_settings import ConsumerSettings
from ingest.member import LOG, Member, Start
from ingest.positions import Batch
from ingest.sender import StopRequest

__all__ = ["Batch", "ConsumerSettings", "consume"]


def consume(
    settings: ConsumerSettings,
    topics: Collection[str],
    group: str,
    work: Callable[[Batch], None],
    *,
    stop: StopRequest | None = None,
    metrics: ConsumerMetrics | None = None,
    start: Start | None = None,
    until_end: bool = False,
) -> dict[str, Any]:
    """Call `work` with one batch after the other, commit after each, and return the summary.

    `work` runs in a thread of its own, one batch at a time, for as long as it takes; what it raises ends the run with
    nothing of that batch committed. `start` gives, for a partition that the group hands to this member, the offset to
    go on from (None: the first that the partition holds), where the work's own output knows better than the group's
    commits. `until_end` ends the run when all of this member's partitions are read and done.

    Raises BadInputError if a topic doesn't exist or the broker refuses the user, IngestError if Kafka fails.
    """
    for topic in topics:
        kafka.partition_count(settings, topic)
    account = Account(group, tuple(topics), metrics or ConsumerMetrics())
    member = Member(settings, account, work, StopRequest() if stop is None else stop, start)
    config = settings.consumer_config(group) | {"error_cb": member.error}
    return member.run(Consumer(config, logger=LOG), until_end)
