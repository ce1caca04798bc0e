"""Means of what sensors measure, by location in sliding windows, and an alert for each window above a limit."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import DataStreamWriter

from streamkit.contracts import Contract
from streamkit.dead_letter import DeadLetters, observe_invalid
from streamkit.lifecycle import main
from streamkit.parameters import number
from streamkit.settings import AppSettings
from streamkit.sinks import TIME_FORMAT, as_kafka_records, to_sinks
from streamkit.source import deduplicate, read_events
from streamkit.windows import averages

QUERY = "air-quality"
KEYS, ALERT_KEY = ("window_start", "location"), ("event_id",)
MEASURED = ("pm25", "pm10", "temperature", "humidity")


def build(spark: SparkSession, settings: AppSettings, contract: Contract) -> Sequence[DataStreamWriter]:
    """Return the app's one query, ready to be started."""
    limit = number(settings, "pm25_limit")
    columns = ["event_id", "location", *MEASURED]
    readings = read_events(spark, settings, contract, columns, watch=observe_invalid, query=QUERY)
    means = averages(deduplicate(readings, contract), settings.window, "location", MEASURED, contract.event_time)
    letters = DeadLetters(spark, settings, contract, QUERY) if settings.dead_letter else None

    def records(rows: DataFrame) -> DataFrame:
        return as_kafka_records(alerts(rows, limit), ALERT_KEY)

    return [to_sinks(means, settings, QUERY, KEYS, letters, records)]


def alerts(means: DataFrame, limit: float) -> DataFrame:
    """Return an alert (contracts/air-quality-alerts) for each window whose mean of PM2.5 is above the limit."""
    began = F.date_format("window_start", TIME_FORMAT)
    return means.where(F.col("avg_pm25") > limit).select(
        F.lit(1).alias("schema_version"),
        F.concat_ws("/", F.lit("pm25"), "location", began).alias("event_id"),
        F.lit("pm25-above-limit").alias("event_type"),
        F.col("window_end").alias("event_time"),
        F.lit(QUERY).alias("source"),
        "location",
        "window_start",
        "window_end",
        F.col("avg_pm25").alias("pm25"),
        F.lit(limit).alias("limit"),
        "readings",
    )


if __name__ == "__main__":
    main(build)
