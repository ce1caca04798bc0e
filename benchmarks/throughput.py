"""Whole-run and steady-state rates of a query, from its own progress."""

import datetime as dt
import statistics
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rates:
    """Rows per second: over the whole run, and the median of the batches after the first (processedRowsPerSecond)."""

    whole_run: float
    steady_state: float


def rows_read(progress: list[dict[str, Any]]) -> int:
    """Return the rows that the query has read from its sources."""
    return sum(entry["numInputRows"] for entry in progress)


def rates(progress: list[dict[str, Any]]) -> Rates:
    """Return the rates of a query, from its progress entries (oldest first; at least one with input).

    The whole run lasts from the start of the first batch, the query's slow first one included, to the end of the
    last batch that had input or wrote windows. The JVM's start is not in it: see the bring-up figures.
    """
    starts = [dt.datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")) for entry in progress]
    ends = [
        start + dt.timedelta(milliseconds=entry["durationMs"]["triggerExecution"])
        for start, entry in zip(starts, progress, strict=True)
        if entry["numInputRows"] > 0 or "addBatch" in entry["durationMs"]
    ]
    steady = [entry["processedRowsPerSecond"] for entry in progress[1:] if entry["numInputRows"] > 0]
    seconds = (max(ends) - starts[0]).total_seconds()
    whole_run = rows_read(progress) / seconds
    return Rates(whole_run, statistics.median(steady) if steady else whole_run)
