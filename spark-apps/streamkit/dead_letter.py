"""Records that break the contract go to a dead-letter topic, each with where it came from and why.

Most batches hold no such record, so a query that counts events does not read the topic twice. It observes, as records
pass, how many are invalid in each partition and at which offsets (`observe_invalid`). Only if there are any are those
offsets read again and sent, before the batch is committed (`DeadLetters.send`). A batch that is run again is sent
again: a dead letter comes at least once, and its headers tell a second copy.

A query that writes no batches by function, such as one that streams from Kafka to Kafka, has a query beside it that
reads the topic for itself (`dead_letters`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import DataStreamWriter

from streamkit.contracts import Contract
from streamkit.kafka import kafka_options
from streamkit.settings import AppSettings, KafkaSinkSettings, SourceSettings
from streamkit.source import BOUNDED_FETCHING, checked, read_records

QUERY = "dead-letters"
"""Name of the query that `dead_letters` starts."""

OBSERVED = "invalid"
"""Observed metrics whose name starts so are counts of invalid records."""


def observe_invalid(records: DataFrame, partitions: Sequence[int], name: str) -> DataFrame:
    """Observe the invalid records of each partition as a query's records pass.

    Needs the columns partition, offset, valid. Adds to each batch's progress, under `name` (which starts with
    `invalid`), three figures for each partition p: count_<p>, and first_<p> and last_<p> (offsets, null if there is
    none).
    """
    figures: list[Column] = []
    for partition in partitions:
        broken = ~F.col("valid")
        if len(partitions) > 1:
            broken = broken & (F.col("partition") == partition)
        offset = F.when(broken, F.col("offset"))
        figures += [
            F.count(offset).alias(f"count_{partition}"),
            F.min(offset).alias(f"first_{partition}"),
            F.max(offset).alias(f"last_{partition}"),
        ]
    return records.observe(name, *figures)


def observed_metrics(execution: Any) -> dict[str, dict[str, Any]]:
    """Return what a finished execution (a QueryExecution in Java) observed: figures by the observation's name."""
    metrics = execution.observedMetrics()
    # Names in one string: a Java iterator ends in an exception, and PySpark takes 50 ms of CPU to look into it.
    names = metrics.keys().mkString("\n").splitlines()
    return {name: json.loads(metrics.apply(name).json()) for name in names}


def invalid_ranges(observed: Mapping[str, Mapping[str, Any]]) -> dict[int, tuple[int, int]]:
    """Return, of a batch's observed metrics, the offsets [first, last] of each partition that has invalid records."""
    ranges = {}
    for name, figures in observed.items():
        if not name.startswith(OBSERVED):
            continue
        for figure, value in figures.items():
            kind, _, partition = figure.partition("_")
            if kind == "count" and value:
                ranges[int(partition)] = (figures[f"first_{partition}"], figures[f"last_{partition}"])
    return ranges


def invalid_count(observed: Mapping[str, Mapping[str, Any]]) -> int:
    """Return, of a batch's observed metrics, how many records were invalid."""
    figures = [item for name, metrics in observed.items() if name.startswith(OBSERVED) for item in metrics.items()]
    return sum(value for name, value in figures if name.startswith("count_"))


def as_dead_letters(records: DataFrame, contract: Contract) -> DataFrame:
    """Return the invalid records of a stream or table, as Kafka records: key and value as they came, and headers.

    Headers, as text: source-topic, source-partition, source-offset, source-timestamp (ISO 8601, UTC), reason.
    """
    headers = {
        "source-topic": F.col("topic"),
        "source-partition": F.col("partition").cast("string"),
        "source-offset": F.col("offset").cast("string"),
        "source-timestamp": F.date_format("timestamp", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX"),
        "reason": contract.reason(),
    }
    pairs = [F.struct(F.lit(k).alias("key"), F.encode(v, "UTF-8").alias("value")) for k, v in headers.items()]
    return checked(records, contract).where("NOT valid").select("key", "value", F.array(*pairs).alias("headers"))


class DeadLetters:
    """Sends the invalid records of a query's batches; for use in the function that writes a batch."""

    def __init__(self, spark: SparkSession, settings: AppSettings, contract: Contract, query: str) -> None:
        self._spark = spark
        self._source = settings.source
        self._contract = contract
        self._query = query
        self._sink = _sink(settings)

    def send(self) -> int:
        """Send the invalid records of the query's current batch, whose rows must all have been computed.

        Returns how many offsets were read again. Called in the batch, because only what is written before the batch is
        committed is written again after a crash.
        """
        ranges = invalid_ranges(self._observed())
        if not ranges:
            return 0
        records = read_ranges(self._spark, self._source, ranges)
        as_dead_letters(records, self._contract).write.format("kafka").options(**self._sink).save()
        return sum(last - first + 1 for first, last in ranges.values())

    def _observed(self) -> dict[str, dict[str, Any]]:
        """Return the observed metrics of the batch under way.

        Listeners get them only after the batch is committed; until then the running execution has to be asked.
        """
        query: Any = next(query for query in self._spark.streams.active if query.name == self._query)
        return observed_metrics(query._jsq.streamingQuery().lastExecution())


def read_ranges(spark: SparkSession, source: SourceSettings, ranges: Mapping[int, tuple[int, int]]) -> DataFrame:
    """Return the records of the topic's partitions within offsets [first, last], as a table."""
    options = {
        **BOUNDED_FETCHING,
        **kafka_options(source),
        "assign": json.dumps({source.topic: list(ranges)}),
        "startingOffsets": json.dumps({source.topic: {str(p): first for p, (first, _) in ranges.items()}}),
        "endingOffsets": json.dumps({source.topic: {str(p): last + 1 for p, (_, last) in ranges.items()}}),
    }
    return spark.read.format("kafka").options(**options).load()


def dead_letters(spark: SparkSession, settings: AppSettings, contract: Contract) -> DataStreamWriter:
    """Return the writer of a query that reads the source for itself and sends its invalid records."""
    records = as_dead_letters(read_records(spark, settings), contract)
    writer: Any = records.writeStream.queryName(QUERY).format("kafka").options(**_sink(settings))
    return writer.option("checkpointLocation", settings.checkpoint(QUERY))


def _sink(settings: AppSettings) -> dict[str, str]:
    if settings.dead_letter is None:
        raise ValueError("settings.dead_letter is needed")
    source = settings.source
    topic = settings.dead_letter.topic
    return kafka_options(KafkaSinkSettings(topic, source.bootstrap_servers, source.security, source.options))
