"""Windowed aggregations."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from streamkit.settings import SettingsError, WindowSettings

KEYS = ("window_start", "event_type")
"""The columns that name one row of `count_by_type`."""


def count_by_type(events: DataFrame, window: WindowSettings | None, event_time: str = "event_time") -> DataFrame:
    """Count events by sliding window and event type.

    Columns: window_start, window_end (timestamps, UTC; the end is exclusive), event_type, events (bigint).
    Raises SettingsError without a window.
    """
    if window is None:
        raise SettingsError("window: is missing: the app counts by window, so give window.length and window.slide")
    span = F.window(event_time, window.length, window.slide)
    return (
        events.groupBy(span, "event_type")
        .agg(F.count(F.lit(1)).alias("events"))
        .select(
            F.col("window.start").alias("window_start"),
            F.col("window.end").alias("window_end"),
            "event_type",
            "events",
        )
    )
