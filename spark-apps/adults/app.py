"""Keeps the people who are of age: Kafka in, Kafka out, bad records to a dead-letter topic, the others counted."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import DataStreamWriter

from streamkit.contracts import Contract
from streamkit.counting import count_rows
from streamkit.dead_letter import DeadLetters, observe_invalid
from streamkit.lifecycle import main
from streamkit.parameters import integer
from streamkit.settings import AppSettings
from streamkit.sinks import to_sinks
from streamkit.source import read_messages

QUERY = "adults"
COLUMNS = ("event_id", "name", "age")
KEYS = ("event_id",)


def build(spark: SparkSession, settings: AppSettings, contract: Contract) -> Sequence[DataStreamWriter]:
    """Return the app's one query, ready to be started."""
    minimum = integer(settings, "minimum_age", 0, 150)
    people = read_messages(spark, settings, contract, COLUMNS, watch=observe_invalid)
    letters = DeadLetters(spark, settings, contract, QUERY) if settings.dead_letter else None
    return [to_sinks(of_age(people, minimum), settings, QUERY, KEYS, letters)]


def of_age(people: DataFrame, minimum: int) -> DataFrame:
    """Keep the people of `minimum` years and more; count them as `kept`, the others as `dropped`."""
    kept = F.col("age") >= minimum
    return count_rows(people, kept=kept, dropped=~kept).where(kept)


if __name__ == "__main__":
    main(build)
