"""Where results go: Delta (each batch once) and Kafka (each batch at least once), both from one computation."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming import DataStreamWriter

from streamkit.checkpoint import HadoopFiles
from streamkit.dead_letter import DeadLetters
from streamkit.kafka import kafka_options
from streamkit.settings import AppSettings, DeltaSinkSettings, KafkaSinkSettings

ToRecords = Callable[[DataFrame], DataFrame]
"""Makes Kafka records (`key`, `value`) of rows: of all of them, or of those that the topic is for."""

TIME_FORMAT = "yyyy-MM-dd'T'HH:mm:ssXXX"


def as_kafka_records(rows: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return rows as Kafka records: `key` as of `keys` joined by `|`, `value` as JSON of the whole row."""
    texts = {
        name: F.date_format(name, TIME_FORMAT) if kind == "timestamp" else F.col(name).cast("string")
        for name, kind in rows.dtypes
    }
    return rows.select(
        F.concat_ws("|", *(texts[name] for name in keys)).alias("key"),
        F.to_json(F.struct(*rows.columns), {"timestampFormat": TIME_FORMAT}).alias("value"),
    )


def write_delta(
    rows: DataFrame, sink: DeltaSinkSettings, output_mode: str, keys: Sequence[str], txn: tuple[str, int]
) -> None:
    """Write one batch to the Delta table, in effect once.

    `txn` is (query id, batch id): Delta keeps it with the commit and passes over a batch that it already holds. In mode
    append rows are added, in update they replace those with the same `keys`, in complete they replace the whole table.
    """
    application, version = txn
    rows = rows.coalesce(1)  # one file a batch: results are few
    options = {"txnAppId": application, "txnVersion": str(version)}
    spark = rows.sparkSession
    if output_mode == "update" and _is_delta(rows, sink.path):
        from delta.tables import DeltaTable  # noqa: PLC0415  (an app without a Delta sink does not need the package)

        spark.conf.set("spark.databricks.delta.write.txnAppId", application)
        spark.conf.set("spark.databricks.delta.write.txnVersion", str(version))
        try:
            same = " AND ".join(f"old.{name} <=> new.{name}" for name in keys)
            table = DeltaTable.forPath(spark, sink.path).alias("old")
            table.merge(rows.alias("new"), same).whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
        finally:
            spark.conf.unset("spark.databricks.delta.write.txnAppId")
            spark.conf.unset("spark.databricks.delta.write.txnVersion")
        return
    mode = "overwrite" if output_mode == "complete" else "append"
    rows.write.format("delta").mode(mode).options(**options).save(sink.path)


def _is_delta(rows: DataFrame, path: str) -> bool:
    from delta.tables import DeltaTable  # noqa: PLC0415

    return bool(DeltaTable.isDeltaTable(rows.sparkSession, path))


def write_kafka(
    rows: DataFrame, sink: KafkaSinkSettings, keys: Sequence[str], records: ToRecords | None = None
) -> None:
    """Write one batch to the Kafka topic; a batch that is run again is written again."""
    made = records(rows) if records else as_kafka_records(rows, keys)
    made.write.format("kafka").options(**kafka_options(sink)).save()


def batch_writer(
    settings: AppSettings,
    query: str,
    keys: Sequence[str],
    letters: DeadLetters | None = None,
    records: ToRecords | None = None,
) -> Callable[[DataFrame, int], None]:
    """Return the foreachBatch function that writes a batch to every sink of the settings, computing it once."""
    query_id: list[str] = []

    def write(rows: DataFrame, batch: int) -> None:
        if not query_id:
            # The id lives in the checkpoint: it stays the same over restarts, and a new checkpoint has another.
            metadata = HadoopFiles(rows.sparkSession).read(f"{settings.checkpoint(query)}/metadata")
            query_id.append(json.loads(metadata)["id"])
        rows = rows.persist()
        try:
            count = rows.count()  # computes every row, and with it the state and what is observed
            if letters:
                letters.send()
            if count and settings.sinks.delta:
                write_delta(rows, settings.sinks.delta, settings.output_mode, keys, (query_id[0], batch))
            if count and settings.sinks.kafka:
                write_kafka(rows, settings.sinks.kafka, keys, records)
        finally:
            rows.unpersist()

    return write


def to_sinks(
    rows: DataFrame,
    settings: AppSettings,
    query: str,
    keys: Sequence[str],
    letters: DeadLetters | None = None,
    records: ToRecords | None = None,
) -> DataStreamWriter:
    """Return the writer of a query whose results go to the sinks of the settings, and its dead letters to their topic.

    `keys` are the columns that name a result: the Kafka key, and in output mode `update` the row of the Delta table.
    `records` makes what goes to Kafka; by default each row is a record.
    """
    if settings.sinks.kafka and not settings.sinks.delta and not letters:
        # Nothing needs the batch in one piece: rows go to Kafka as they are computed.
        return to_kafka(records(rows) if records else as_kafka_records(rows, keys), settings, query)
    writer: Any = rows.writeStream.queryName(query).outputMode(settings.output_mode)
    writer = writer.foreachBatch(batch_writer(settings, query, keys, letters, records))
    return writer.option("checkpointLocation", settings.checkpoint(query))


def to_kafka(records: DataFrame, settings: AppSettings, query: str) -> DataStreamWriter:
    """Return the writer of a query whose rows are Kafka records already (`key`, `value`, ...)."""
    if settings.sinks.kafka is None:
        raise ValueError("to_kafka needs settings.sinks.kafka")
    mode = "update" if settings.mode == "real-time" else settings.output_mode
    writer: Any = records.writeStream.queryName(query).outputMode(mode).format("kafka")
    options = kafka_options(settings.sinks.kafka)
    return writer.options(**options).option("checkpointLocation", settings.checkpoint(query))
