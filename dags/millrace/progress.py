"""Reads a driver's `/progress` document: how far a query has come, and whether that is far enough."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any


@dataclass(frozen=True)
class Goal:
    """Where a stream is caught up."""

    topic: str
    end_offsets: Mapping[int, int]
    """Partition to the offset that has to be reached."""
    query: str
    """The query whose watermark counts."""
    watermark: datetime | None
    """The end of the last window that has to close; None for a stream without windows."""


def find_query(document: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return the query of that name, or None."""
    return next((query for query in document.get("queries", ()) if query.get("name") == name), None)


def newest(query: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the newest batch that a query has reported, or None."""
    batches = (query or {}).get("progress") or ()
    return batches[-1] if batches else None


def merged_offsets(batch: Mapping[str, Any], topic: str, which: str = "endOffset") -> dict[int, int]:
    """Return the offset of each partition of `topic`, merged over all sources of a batch.

    A query with a watermark per partition has one source for each. `which` is `endOffset` or `latestOffset`.
    """
    merged: dict[int, int] = {}
    for source in batch.get("sources", ()):
        offsets = source.get(which)
        if isinstance(offsets, str):
            offsets = json.loads(offsets)
        for partition, offset in ((offsets or {}).get(topic) or {}).items():
            merged[int(partition)] = max(int(offset), merged.get(int(partition), 0))
    return merged


def watermark_of(batch: Mapping[str, Any]) -> datetime | None:
    """Return the watermark that a finished batch worked with, or None if the query has none."""
    text = (batch.get("eventTime") or {}).get("watermark")
    return parse_time(text) if text else None


def parse_time(text: str) -> datetime:
    """Return an ISO 8601 instant as an aware time; one without zone is UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def last_window_end(last_event: datetime, length: timedelta, slide: timedelta) -> datetime:
    """Return the end of the last sliding window that holds an event at `last_event`."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (last_event - epoch) // slide * slide + length


def records_behind(document: Mapping[str, Any], goal: Goal) -> dict[str, int | None]:
    """Return how many of the goal's records each query has before it; None if it reported no batch yet."""
    behind: dict[str, int | None] = {}
    for query in document.get("queries", ()):
        batch = newest(query)
        offsets = merged_offsets(batch, goal.topic) if batch else {}
        missing = sum(max(0, end - offsets.get(partition, 0)) for partition, end in goal.end_offsets.items())
        behind[query["name"]] = missing if batch else None
    return behind


def shortfall(document: Mapping[str, Any], goal: Goal) -> str:
    """Say what a stream still lacks, or return an empty string if it is caught up.

    Every query that reads the topic must have read all of it; the goal's query must also have closed its
    windows.
    """
    main = newest(find_query(document, goal.query))
    if main is None:
        return f"{goal.query} has not reported a batch yet"
    for name, behind in records_behind(document, goal).items():
        if behind is None:
            return f"{name} has not reported a batch yet"
        if behind:
            return f"{name} has {behind:,} of {sum(goal.end_offsets.values()):,} records before it"
    if goal.watermark is None:
        return ""
    watermark = watermark_of(main)
    if watermark is None or watermark < goal.watermark:
        return f"the watermark of {goal.query} is {watermark}, the last window closes at {goal.watermark}"
    return ""


def failed_query(document: Mapping[str, Any]) -> str:
    """Return the message of a query that has failed, or an empty string."""
    for query in document.get("queries", ()):
        if query.get("exception"):
            return f"query {query.get('name')} failed: {str(query['exception']).strip().splitlines()[0]}"
    return ""


def compact(query: str, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a batch's report that a run's report shows; a full one takes several KiB."""
    durations = batch.get("durationMs") or {}
    states = batch.get("stateOperators") or ()
    event_time = batch.get("eventTime") or {}
    ends: dict[tuple[str, int], int] = {}
    latest: dict[tuple[str, int], int] = {}
    for topic in topics_of(batch):
        ends |= {(topic, key): value for key, value in merged_offsets(batch, topic).items()}
        latest |= {(topic, key): value for key, value in merged_offsets(batch, topic, "latestOffset").items()}
    return {
        "query": query,
        "run_id": batch.get("runId"),
        "batch_id": batch.get("batchId"),
        "time": batch.get("timestamp"),
        "rows": batch.get("numInputRows") or 0,
        "rows_per_second": batch.get("processedRowsPerSecond"),
        "batch_ms": durations.get("triggerExecution") or batch.get("batchDuration") or 0,
        "phases_ms": {key: value for key, value in durations.items() if key != "triggerExecution"},
        "watermark": event_time.get("watermark"),
        "newest_event": event_time.get("max"),
        "lag": sum(max(0, latest[key] - ends.get(key, 0)) for key in latest),
        "state_rows": sum(state.get("numRowsTotal") or 0 for state in states),
        "late_rows": sum(state.get("numRowsDroppedByWatermark") or 0 for state in states),
    }


def topics_of(batch: Mapping[str, Any]) -> set[str]:
    """Return the topics that a batch has read."""
    found: set[str] = set()
    for source in batch.get("sources", ()):
        offsets = source.get("endOffset")
        offsets = json.loads(offsets) if isinstance(offsets, str) else offsets
        found |= set(offsets or {})
    return found


def merge_history(known: Iterable[dict[str, Any]], document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return `known` batches and those of a `/progress` document, compact, each once, oldest first.

    A batch that was done again after a restart is listed once for each time.
    """
    merged = {(entry["query"], entry["run_id"], entry["batch_id"]): entry for entry in known}
    for query in document.get("queries", ()):
        for batch in query.get("progress") or ():
            entry = compact(query["name"], batch)
            merged[(entry["query"], entry["run_id"], entry["batch_id"])] = entry
    return sorted(merged.values(), key=lambda entry: (entry["time"] or "", entry["batch_id"] or 0))
