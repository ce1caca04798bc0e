"""What becomes of a stream whose topic gets more partitions.

A query with a watermark, or whose bad records are counted by partition, reads the partitions that were there when its
driver started: nobody would read the new ones.
So the driver looks for them (`PartitionWatch`), and ends with a failure if there are any; whoever restarts failed
drivers starts one that reads them all, from their first record. A checkpoint counts its sources, though, and Spark
accepts no other number: the new partitions are shared out among the sources that it has (`groups_of`).
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from streamkit.checkpoint import HadoopFiles, newest
from streamkit.kafka import KafkaError, current_partitions, partitions_of
from streamkit.logs import LOGGER
from streamkit.settings import AppSettings

CHECK_SECONDS = 10.0
"""How often the driver asks Kafka for the number of partitions."""


def groups_of(spark: SparkSession, settings: AppSettings, query: str | None) -> list[list[int]]:
    """Return which partitions of the topic each of a query's sources reads.

    With the scope `partition` that is one each, or as many sources as the query's checkpoint has (None: there is none).
    Raises KafkaError if the topic has fewer partitions than that, or can't be asked for.
    """
    partitions = partitions_of(spark, settings.source)
    if settings.watermark is None or settings.watermark.scope == "topic":
        return [partitions]
    known = None if query is None else sources_in(HadoopFiles(spark), settings.checkpoint(query))
    sources = len(partitions) if known is None else known
    if sources > len(partitions):
        raise KafkaError(
            f"topic {settings.source.topic} has {len(partitions)} partitions, but the checkpoint "
            f"{settings.checkpoint(str(query))} is of {sources}: it is of another topic, so delete it or name another"
        )
    groups = shared(partitions, sources)
    if sources < len(partitions):
        LOGGER.warning(
            "topic %s has %d partitions and its checkpoint %d sources: partitions %s share a watermark, and events of "
            "the slower one may be late; a new checkpoint gives each its own",
            *(settings.source.topic, len(partitions), sources, " and ".join(map(str, groups[0]))),
        )
    return groups


def shared(partitions: Sequence[int], sources: int) -> list[list[int]]:
    """Share partitions out among sources; one keeps what it has if there are more partitions later."""
    return [list(partitions[index::sources]) for index in range(sources)]


def sources_in(files: HadoopFiles, checkpoint: str) -> int | None:
    """Return how many sources a query's checkpoint counts, or None if it has planned no batch."""
    batch = newest(files.list(f"{checkpoint}/offsets"))
    if batch is None:
        return None
    # A version, the batch's settings, then a line for each source.
    return len(files.read(f"{checkpoint}/offsets/{batch}").strip().splitlines()) - 2


class PartitionWatch:
    """Asks Kafka now and then, in a thread of its own, whether the topic has more partitions than the driver reads.

    A topic without a watermark and without dead letters is not watched: its query finds new partitions by itself.
    """

    def __init__(self, spark: SparkSession, settings: AppSettings, seconds: float = CHECK_SECONDS) -> None:
        self._spark: Any = spark
        self._source = settings.source
        self._seconds = seconds
        self._grown = ""
        self._end = threading.Event()
        if settings.watermark or settings.dead_letter:
            threading.Thread(target=self._watch, name="partition-watch", daemon=True).start()

    def __call__(self) -> str:
        """Return, in one sentence, that the topic has grown; empty if it has not."""
        return self._grown

    def close(self) -> None:
        """Ask no more."""
        self._end.set()

    def _watch(self) -> None:
        while not (self._end.wait(self._seconds) or self._grown):
            # A broker that does not answer is for the queries to report; the JVM may be ending.
            with suppress(KafkaError, Py4JError, OSError):
                known = len(partitions_of(self._spark, self._source))
                self._grown = growth(self._source.topic, known, len(current_partitions(self._spark, self._source)))


def growth(topic: str, known: int, now: int) -> str:
    """Say that a topic has grown, or return an empty string."""
    if now <= known:
        return ""
    return (
        f"topic {topic} has {now} partitions, and this driver reads the {known} that were there when it started: it "
        "ends, so that the next one reads them all"
    )
