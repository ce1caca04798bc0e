"""Windowed aggregations."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from streamkit.settings import SettingsError, WindowSettings

KEYS = ("window_start", "event_type")
"""The columns that name one row of `count_by_type`."""

OHLC_KEYS = ("window_start", "symbol")
"""The columns that name one row of `ohlc`."""

AVERAGED = "decimal(12,4)"
"""As what `averages` adds up: sums of decimals don't depend on their order, so a window that is computed again is the
same to the last digit."""


def count_by_type(events: DataFrame, window: WindowSettings | None, event_time: str = "event_time") -> DataFrame:
    """Count events by sliding window and event type.

    Columns: window_start, window_end (timestamps, UTC; the end is exclusive), event_type, events (bigint).
    Raises SettingsError without a window.
    """
    counts = [F.count(F.lit(1)).alias("events")]
    return _by_window(events, window, event_time, "event_type", counts)


def ohlc(prices: DataFrame, window: WindowSettings | None, event_time: str = "event_time") -> DataFrame:
    """Return the first, highest, lowest and last price of each symbol in each window, its volume and its VWAP.

    Needs the columns event_id, symbol, price, quantity. First and last are by event time, and by event_id where that
    is the same. Columns: window_start, window_end, symbol, open, high, low, close, volume (units), vwap (mean price,
    weighted by quantity), events (bigint). A price without a quantity adds nothing to volume and vwap; both are null
    if no price of the window had one, vwap also if nothing was traded. Raises SettingsError without a window.
    """
    order = F.struct(event_time, "event_id")
    volume = F.sum("quantity")
    figures = [
        F.min_by("price", order).alias("open"),
        F.max("price").alias("high"),
        F.min("price").alias("low"),
        F.max_by("price", order).alias("close"),
        volume.alias("volume"),
        F.try_divide(F.sum(F.col("price") * F.col("quantity")), volume).alias("vwap"),
        F.count(F.lit(1)).alias("events"),
    ]
    return _by_window(prices, window, event_time, "symbol", figures)


def averages(
    readings: DataFrame, window: WindowSettings | None, by: str, columns: Sequence[str], event_time: str = "event_time"
) -> DataFrame:
    """Return the mean of each of `columns` by window and `by`.

    Columns: window_start, window_end, `by`, readings (bigint), and avg_<column> (double) for each; nulls are left out
    of a mean, and a mean of nothing is null. Values are taken to the fourth digit after the point and must be below
    100,000,000: a contract has to see to that. Raises SettingsError without a window.
    """
    figures = [F.count(F.lit(1)).alias("readings")]
    figures += [F.avg(F.col(name).cast(AVERAGED)).cast("double").alias(f"avg_{name}") for name in columns]
    return _by_window(readings, window, event_time, by, figures)


def _by_window(
    rows: DataFrame, window: WindowSettings | None, event_time: str, by: str, figures: Sequence[Column]
) -> DataFrame:
    """Return figures by window and one column: window_start, window_end, `by`, then the figures."""
    if window is None:
        raise SettingsError("window: is missing: the app works by window, so give window.length and window.slide")
    span = F.window(event_time, window.length, window.slide)
    found = rows.groupBy(span, by).agg(*figures)
    start, end = F.col("window.start").alias("window_start"), F.col("window.end").alias("window_end")
    return found.select(start, end, *(name for name in found.columns if name != "window"))
