"""The batch layer: hours made of the stream's windows, kept for good, and both merged into one view.

The stream's table holds one range of input and is made anew for the next; `event_hours` keeps what each range came to.
A range that is computed again, or that overlaps older ones, takes their place: no event counts twice.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from millrace import storage, tables
from millrace.errors import MillraceError

if TYPE_CHECKING:
    import polars as pl

WINDOWS, HOURS = "event_windows", "event_hours"
"""The stream's Delta table, and the batch layer's."""
LENGTH = timedelta(minutes=5)
"""Of the stream's windows. Those that start at a multiple of it hold each event once, however they slide."""


@dataclass(frozen=True)
class InputRange:
    """Which input a table was computed from: days of the source, by the source's own calendar."""

    first: date
    days: int

    @property
    def key(self) -> str:
        """What names the range in the table."""
        return f"{self.first}+{self.days}"

    def overlaps(self, other: "InputRange") -> bool:
        """True if there is a day that both have."""
        end, other_end = self.first + timedelta(days=self.days), other.first + timedelta(days=other.days)
        return self.first < other_end and other.first < end


def parse_range(key: str) -> InputRange:
    """Return the range of a `key`."""
    first, _, days = key.partition("+")
    return InputRange(date.fromisoformat(first), int(days))


def current_range(topic: str = "events") -> InputRange:
    """Return the range that the stream's table is being computed from. Raises MillraceError if there is none."""
    found = storage.read_json("ranges", f"{topic}.json")
    if not found:
        raise MillraceError("No range of input has been begun, so there are no windows: run streaming_pipeline first.")
    return InputRange(date.fromisoformat(found["from"]), int(found["days"]))


def hours_of(windows: "pl.LazyFrame", length: timedelta = LENGTH) -> "pl.LazyFrame":
    """Return events by hour and type: hour, event_type, events. Lazily: windows are read in pieces, later."""
    import polars as pl

    start = pl.col("window_start")
    whole = windows.filter(start.dt.epoch("s") % int(length.total_seconds()) == 0)
    return whole.group_by(start.dt.truncate("1h").alias("hour"), "event_type").agg(pl.col("events").sum())


def aggregate(wanted: InputRange) -> dict[str, Any]:
    """Put the hours of the stream's table into `event_hours`, in the place of what it had of these days.

    Returns rows, events, the end of the last window, and the ranges that were replaced. Raises MillraceError if there
    is no window, or the storage refuses.
    """
    import polars as pl

    windows = tables.scan(WINDOWS)
    rows = hours_of(windows).collect(engine="streaming").sort("hour", "event_type")
    through = windows.select(pl.col("window_end").max()).collect(engine="streaming").item()
    if rows.is_empty():
        raise MillraceError(f"The table {WINDOWS} has no window: run streaming_pipeline first.")
    replaced = [each for each in known_ranges() if each.overlaps(wanted)]
    rows = rows.with_columns(
        pl.lit(wanted.key).alias("range"),
        pl.lit(through).alias("through"),
        pl.col("hour").dt.date().alias("day"),
        pl.col("events").cast(pl.Int64),
    )
    keys = ", ".join(f"'{each.key}'" for each in {*replaced, wanted})
    tables.replace(HOURS, rows, f"range IN ({keys})", ["range"])
    return {
        "range": wanted.key,
        "rows": rows.height,
        "events": int(rows["events"].sum()),
        "through": through.isoformat(),
        "replaced": sorted(each.key for each in replaced if each != wanted),
    }


def known_ranges() -> list[InputRange]:
    """Return the ranges that `event_hours` holds."""
    if not tables.exists(HOURS):
        return []
    keys = tables.scan(HOURS).select("range").unique().collect(engine="streaming")
    return sorted((parse_range(key) for key in keys["range"]), key=lambda each: each.first)


def daily(hours: "pl.DataFrame") -> "pl.DataFrame":
    """Return events by day (UTC) and type."""
    import polars as pl

    by_day = hours.group_by(pl.col("hour").dt.date().alias("day"), "event_type")
    return by_day.agg(pl.col("events").sum()).sort("day", "event_type")


def history() -> "pl.DataFrame":
    """Return the hours over all ranges. Two ranges may share an hour, never an event."""
    import polars as pl

    found = tables.scan(HOURS).group_by("hour", "event_type").agg(pl.col("events").sum())
    return found.collect(engine="streaming").sort("hour", "event_type")


def serve(first: datetime | None = None, end: datetime | None = None) -> "pl.DataFrame":
    """Return what readers see: the batch layer's hours, and the stream's windows that are younger than them.

    `hour`, `event_type`, `events`, from `first` to before `end`. While the stream works on a range, the batch layer's
    hours of that range count up to the last window that was aggregated, and the stream's windows from there on; older
    hours of days that the stream computes anew don't count. Raises MillraceError if there is neither table.
    """
    import polars as pl

    parts = []
    stream_range = current_range() if tables.exists(WINDOWS) else None
    through: datetime | None = None
    if tables.exists(HOURS):
        batch = tables.scan(HOURS)
        if stream_range is not None:
            anew = [each.key for each in known_ranges() if each != stream_range and each.overlaps(stream_range)]
            batch = batch.filter(~pl.col("range").is_in(anew))
            same = pl.col("range") == stream_range.key
            through = batch.filter(same).select(pl.col("through").max()).collect().item()
        parts.append(batch.select("hour", "event_type", "events"))
    if stream_range is not None:
        windows = tables.scan(WINDOWS)
        if through is not None:
            windows = windows.filter(pl.col("window_start") >= through)
        parts.append(hours_of(windows).select("hour", "event_type", pl.col("events").cast(pl.Int64)))
    if not parts:
        raise MillraceError("There is neither history nor stream to read: run streaming_pipeline first.")
    merged = pl.concat(parts, how="vertical_relaxed")
    if first is not None:
        merged = merged.filter(pl.col("hour") >= first)
    if end is not None:
        merged = merged.filter(pl.col("hour") < end)
    summed = merged.group_by("hour", "event_type").agg(pl.col("events").sum())
    return summed.collect(engine="streaming").sort("hour", "event_type")
