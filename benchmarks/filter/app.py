"""Keeps one event type: Kafka in, contract-checked, Kafka out. The stateless app of the benchmarks."""

from collections.abc import Sequence

from pyspark.sql import SparkSession
from pyspark.sql.streaming import DataStreamWriter

from streamkit.contracts import Contract
from streamkit.lifecycle import main
from streamkit.settings import AppSettings
from streamkit.sinks import to_kafka
from streamkit.source import checked, read_records


def build(spark: SparkSession, settings: AppSettings, contract: Contract) -> Sequence[DataStreamWriter]:
    """Return the app's one query."""
    events = checked(read_records(spark, settings), contract)
    # With AND instead of if, the optimizer would move the second test to below the parsing, and parse for each test.
    kept = events.where("if(event.event_type = 'departed', valid, false)").select("key", "value")
    return [to_kafka(kept, settings, "filter")]


if __name__ == "__main__":
    main(build)
