"""Counts events by type in sliding windows: Kafka in, Delta and Kafka out, bad records to a dead-letter topic."""

from collections.abc import Sequence

from pyspark.sql import SparkSession
from pyspark.sql.streaming import DataStreamWriter

from streamkit.contracts import Contract
from streamkit.dead_letter import DeadLetters, observe_invalid
from streamkit.lifecycle import main
from streamkit.settings import AppSettings
from streamkit.sinks import to_sinks
from streamkit.source import read_events
from streamkit.windows import KEYS, count_by_type

QUERY = "event-windows"


def build(spark: SparkSession, settings: AppSettings, contract: Contract) -> Sequence[DataStreamWriter]:
    """Return the app's one query, ready to be started."""
    events = read_events(spark, settings, contract, ["event_type"], watch=observe_invalid, query=QUERY)
    counts = count_by_type(events, settings.window, contract.event_time)
    letters = DeadLetters(spark, settings, contract, QUERY) if settings.dead_letter else None
    return [to_sinks(counts, settings, QUERY, KEYS, letters)]


if __name__ == "__main__":
    main(build)
