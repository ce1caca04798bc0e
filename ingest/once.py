"""Finite feeds: a list of messages in a topic, each exactly once however often sending it is interrupted.

The topic itself says what it holds: its keys are read first, and only what is missing is sent. That reads the whole
topic, which suits lists that fit into memory; a replay of a year goes by positions instead (see `replay`).
"""

import time
from collections.abc import Iterable
from typing import Any

from ingest import contracts, kafka
from ingest.errors import BadInputError
from ingest.kafka import ProducerSettings
from ingest.progress import Progress
from ingest.sender import Sender, StopRequest

SETTLE_SECONDS = 1.0
"""Between two looks at a topic that holds a part: what a killed feed had on its way may still arrive."""
WHOLE = 2**62
"""More records than a partition can hold."""


def send_once(
    messages: Iterable[contracts.Message],
    contract: contracts.Contract,
    topic: str,
    *,
    rate: float,
    producer: ProducerSettings,
    stop: StopRequest,
    progress: Progress,
) -> dict[str, Any]:
    """Send those of the messages that the topic lacks, and return the summary (`state`: `complete` or `stopped`).

    `rate` is messages per second; 0 is as fast as possible. `end_offsets` of a complete feed say where a reader has all
    of it. Raises BadInputError if the topic doesn't exist or somebody else sends to it, IngestError if Kafka fails.
    """
    if not 0 <= rate <= 1_000_000:
        raise BadInputError(
            f"the rate must be from 0 (as fast as possible) to 1000000 messages per second, not {rate}."
        )
    partitions = kafka.partition_count(producer, topic)
    wanted = {contract.key(message): message for message in messages}
    held = wanted.keys() & settled_keys(producer, topic, partitions)
    sender = Sender(producer, topic, stop, progress)
    progress.start()
    began = time.monotonic()
    missing = [(key, message) for key, message in wanted.items() if key not in held]
    sent_all = True
    for number, (key, message) in enumerate(missing):
        due = not rate or sender.wait_until(began + number / rate)
        if not due or not sender.send(kafka.partition_of(key, partitions), key, contract.encode(message)):
            sent_all = False
            break
    complete = sender.flush() and sent_all
    progress.report()
    return {
        "state": "complete" if complete else "stopped",
        "messages": len(wanted),
        "sent": progress.sent,
        "already_there": len(held),
        "seconds": progress.seconds,
        "end_offsets": end_offsets(producer, topic, partitions) if complete else None,
    }


def settled_keys(producer: ProducerSettings, topic: str, partitions: int) -> set[bytes]:
    """Return the keys that a topic holds, once it doesn't change any more; raises BadInputError if it goes on to."""
    before = end_offsets(producer, topic, partitions)
    if not any(before.values()):
        return set()
    time.sleep(SETTLE_SECONDS)
    keys: set[bytes] = set()
    with kafka.lookup(producer) as consumer:
        if kafka.end_offsets(consumer, topic, partitions) != before:
            raise BadInputError(f"somebody else is writing to {topic}: wait until that ends, or stop it.")
        for partition in range(partitions):
            records = kafka.last_records(consumer, topic, partition, lambda _: True, chunk=WHOLE)
            keys |= {record.key() for record in records if record.key()}
    return keys


def end_offsets(producer: ProducerSettings, topic: str, partitions: int) -> dict[int, int]:
    """Return the end offset of each partition; raises IngestError if the broker doesn't say."""
    with kafka.lookup(producer) as consumer:
        return kafka.end_offsets(consumer, topic, partitions)
