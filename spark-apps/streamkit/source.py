"""Records of a Kafka topic: as they came, and as contract-checked events with a watermark.

Spark keeps one watermark for each `withWatermark`, by the latest event time that passed it. Over a whole topic that
goes wrong as soon as partitions are read at different event times (catching up, replaying): events of the slower
partition count as late and are dropped. With scope `partition` every Kafka partition is a source with a watermark of
its own, and the query's watermark is the smallest of them; events in order within their partition are then never late.

What scope `partition` asks for: partitions that the topic gets later share the watermarks of those that it had when the
checkpoint began, because the checkpoint counts the sources (streamkit.partitions). And as Spark keeps the smallest
watermark in the checkpoint, but not those of the sources, after a restart the watermark stands still until every
partition has had a record: no event is lost or late, but windows close later. A feed that is quiet in some partition
sends heartbeats.
"""

import json
import math
from collections.abc import Callable, Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streamkit.contracts import Contract
from streamkit.kafka import kafka_options, partitions_of
from streamkit.partitions import groups_of
from streamkit.session import task_slots
from streamkit.settings import AppSettings, SettingsError, SourceSettings

Watch = Callable[[DataFrame, Sequence[int], str], DataFrame]
"""Takes records with the columns partition, offset, valid, their partitions, and a name of its own; returns them."""

FETCHING = {"kafka.max.poll.records": "5000", "kafka.max.partition.fetch.bytes": "4194304"}
"""Kafka's client hands out 500 records at a time by default; at 100,000 records/s that is 200 calls a second."""

BOUNDED_FETCHING = {**FETCHING, "kafka.fetch.max.wait.ms": "10"}
"""For reads up to a known offset. A task reads what is there already, but Spark asks for the end of the partition after
each fetch, and the broker answers that after the client's next fetch, which waits for more records: half a second by
default."""

HEARTBEAT = "heartbeat"
"""The event type that moves the watermark and is counted by nobody."""


def read_records(spark: SparkSession, settings: AppSettings, partitions: Sequence[int] = ()) -> DataFrame:
    """Return the topic's records as a stream, of all partitions or of those given.

    Columns: topic, partition, offset, timestamp, key, value (see Spark's Kafka guide).

    Raises:
        SettingsError: real-time mode with fewer task slots than partitions.
        KafkaError: Kafka cannot be asked for the partitions, where that is needed.
    """
    source = settings.source
    if settings.mode == "real-time":
        _require_slots(spark, source)
    share = 1.0
    chosen = {"subscribe": source.topic}
    if partitions:
        share = len(partitions) / len(partitions_of(spark, source))
        chosen = {"assign": json.dumps({source.topic: list(partitions)})}
    fetching = BOUNDED_FETCHING if settings.mode == "micro-batch" else FETCHING
    options = {**fetching, **kafka_options(source), "startingOffsets": source.starting_offsets}
    if settings.mode == "micro-batch":  # a real-time batch has no size, and Spark refuses to be given one
        options["maxOffsetsPerTrigger"] = str(math.ceil(source.max_offsets_per_trigger * share))
        options["minPartitions"] = str(math.ceil(source.min_partitions * share))
    options |= {**source.options, **chosen}
    records = spark.readStream.format("kafka").options(**options).load()
    if settings.mode == "micro-batch" and source.max_partitions:
        records = records.coalesce(math.ceil(source.max_partitions * share))
    return records


def checked(records: DataFrame, contract: Contract) -> DataFrame:
    """Add `event` (the parsed message) and `valid` (whether the record keeps the contract) to records."""
    return records.withColumn("event", contract.parsed()).withColumn("valid", contract.valid())


def _require_slots(spark: SparkSession, source: SourceSettings) -> None:
    """Refuse what Spark would start all the same: partitions without a task, whose records nobody reads."""
    slots, partitions = task_slots(spark), len(partitions_of(spark, source))
    if slots is not None and slots < partitions:
        raise SettingsError(
            f"mode: real-time reads each partition of topic {source.topic} by a task that never ends: there are "
            f"{partitions} partitions and {slots} task slots: give the executors {partitions} cores in all, or use "
            "micro-batch"
        )


def read_events(
    spark: SparkSession,
    settings: AppSettings,
    contract: Contract,
    columns: Sequence[str],
    watch: Watch | None = None,
    query: str | None = None,
) -> DataFrame:
    """Return the valid events of the topic, without heartbeats, as a stream with a watermark.

    Columns: the event time as a timestamp, then `columns` of the message, event_type always among them. `watch` may
    observe the checked records of each source before invalid ones are dropped (see streamkit.dead_letter). `query`
    names the query whose checkpoint says how many sources it began with (see streamkit.partitions).
    """
    watermark = settings.watermark
    if watermark is None:
        raise ValueError("read_events needs settings.watermark")
    branches = []
    for index, group in enumerate(groups_of(spark, settings, query)):
        events = as_events(checked(read_records(spark, settings, group), contract), contract, columns)
        if watch:
            events = watch(events, group, f"invalid-{index}")
        branches.append(with_watermark(events, contract, watermark.delay))
    return without_heartbeats(reduce(DataFrame.union, branches), contract)


def read_messages(
    spark: SparkSession,
    settings: AppSettings,
    contract: Contract,
    columns: Sequence[str],
    watch: Watch | None = None,
) -> DataFrame:
    """Return the valid messages of the topic as a stream without a watermark, for apps that keep no state.

    Columns: the event time as a timestamp, then `columns` of the message. `watch` is that of `read_events`; it knows
    the partitions that the topic has when the app starts.
    """
    if watch is None:
        return as_messages(checked(read_records(spark, settings), contract), contract, columns)
    # Those and no others: what came from a partition that is not watched would be dropped uncounted.
    partitions = partitions_of(spark, settings.source)
    records = watch(checked(read_records(spark, settings, partitions), contract), partitions, "invalid")
    return as_messages(records, contract, columns)


def as_messages(records: DataFrame, contract: Contract, columns: Sequence[str]) -> DataFrame:
    """Narrow checked records to the event time as a timestamp and `columns`, of the valid ones."""
    time = contract.timestamp().alias(contract.event_time)
    return records.where("valid").select(time, *(F.col(f"event.{name}").alias(name) for name in columns))


def as_events(records: DataFrame, contract: Contract, columns: Sequence[str]) -> DataFrame:
    """Narrow checked records to partition, offset, valid, the event time as a timestamp, event_type and `columns`."""
    names = dict.fromkeys(["event_type", *columns])
    time = contract.timestamp().alias(contract.event_time)
    return records.select("partition", "offset", "valid", time, *(F.col(f"event.{name}").alias(name) for name in names))


def with_watermark(events: DataFrame, contract: Contract, delay: str) -> DataFrame:
    """Drop invalid events, and let the others move a watermark."""
    return events.where("valid").drop("partition", "offset", "valid").withWatermark(contract.event_time, delay)


def deduplicate(events: DataFrame, contract: Contract) -> DataFrame:
    """Drop every event whose event_id another one had that came before it, within the delay of the watermark.

    What is older than the watermark is dropped too, as late, whether it came before or not: so a record that is sent
    again is never used again. Both are counted by the query's progress (see streamkit.telemetry). Needs the columns
    event_id and the event time, with a watermark; output mode append.
    """
    if "event_id" not in events.columns or contract.event_time not in events.columns:
        raise ValueError("deduplicate needs event_id and the event time: ask read_events for them")
    return events.dropDuplicatesWithinWatermark(["event_id"])


def without_heartbeats(events: DataFrame, contract: Contract) -> DataFrame:
    """Drop heartbeats, after they have moved the watermark.

    The test compares the event time with a bound that depends on the type, because the optimizer moves any test that
    doesn't need the event time to below the watermark, where heartbeats would be dropped before they are seen.
    """
    never, always = F.lit("0001-01-01 00:00:00").cast("timestamp"), F.lit("9999-12-31 00:00:00").cast("timestamp")
    bound = F.when(F.col("event_type") == HEARTBEAT, never).otherwise(always)
    return events.where(F.col(contract.event_time) < bound)
