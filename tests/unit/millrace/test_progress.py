"""How far a query has come."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace.progress import (
    Goal,
    compact,
    failed_query,
    last_window_end,
    merge_history,
    merged_offsets,
    parse_time,
    records_behind,
    shortfall,
)

END = datetime(2013, 2, 1, 9, 14, tzinfo=UTC)
GOAL = Goal(topic="events", end_offsets={0: 10, 1: 20}, query="windows", watermark=END)


def source(partition: int, offset: int, latest: int | None = None) -> dict[str, Any]:
    """One source reads one partition, as with a watermark for each."""
    return {
        "startOffset": None,
        "endOffset": {"events": {str(partition): offset}},
        "latestOffset": {"events": {str(partition): latest or offset}},
    }


def batch(watermark: str | None, *sources: dict[str, Any], number: int = 0, run: str = "r1") -> dict[str, Any]:
    return {
        "runId": run,
        "batchId": number,
        "timestamp": f"2026-01-01T00:00:{number:02}.000Z",
        "numInputRows": 30,
        "processedRowsPerSecond": 5.0,
        "durationMs": {"triggerExecution": 60, "addBatch": 50},
        "eventTime": {"watermark": watermark} if watermark else {},
        "stateOperators": [{"numRowsTotal": 7, "numRowsDroppedByWatermark": 2}],
        "sources": list(sources),
    }


def document(*batches: dict[str, Any], dead: dict[str, Any] | None = None) -> dict[str, Any]:
    queries = [{"name": "windows", "progress": list(batches)}]
    if dead is not None:
        queries.append({"name": "dead", "progress": [dead]})
    return {"application": "a", "queries": queries}


CAUGHT_UP = batch("2013-02-01T09:14:00.000Z", source(0, 10), source(1, 20))


def test_offsets_are_merged_over_the_sources() -> None:
    text = json.dumps({"events": {"2": 5}, "other": {"0": 99}})
    given = batch(None, source(0, 10), source(1, 20), {"endOffset": text}, {"endOffset": None}, {})
    assert merged_offsets(given, "events") == {0: 10, 1: 20, 2: 5}
    assert merged_offsets(given, "events", "latestOffset") == {0: 10, 1: 20}


def test_caught_up() -> None:
    assert shortfall(document(CAUGHT_UP), GOAL) == ""
    assert shortfall(document(CAUGHT_UP, dead=batch(None, source(0, 10), source(1, 21))), GOAL) == ""


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"queries": []}, "windows has not reported a batch yet"),
        (document(), "windows has not reported a batch yet"),
        (
            document(batch("2013-02-01T09:14:00Z", source(0, 10), source(1, 19))),
            "windows has 1 of 30 records before it",
        ),
        (document(batch("2013-02-01T09:14:00Z", source(1, 20))), "windows has 10 of 30"),
        (document(batch("2013-02-01T09:13:59.999Z", source(0, 10), source(1, 20))), "the watermark of windows is 2013"),
        (document(batch(None, source(0, 10), source(1, 20))), "the watermark of windows is None"),
        (document(CAUGHT_UP, dead=batch(None, source(0, 10))), "dead has 20 of 30"),
        ({"queries": [*document(CAUGHT_UP)["queries"], {"name": "dead", "progress": []}]}, "dead has not reported"),
    ],
)
def test_not_caught_up(given: dict[str, Any], complaint: str) -> None:
    assert complaint in shortfall(given, GOAL)


def test_only_the_newest_batch_counts() -> None:
    behind = batch("2013-01-01T00:00:00Z", source(0, 1), source(1, 1))
    assert shortfall(document(behind, CAUGHT_UP), GOAL) == ""
    assert shortfall(document(CAUGHT_UP, behind), GOAL) != ""


def test_records_behind_tells_silence_from_work() -> None:
    given = document(CAUGHT_UP)
    given["queries"].append({"name": "silent", "progress": []})
    assert records_behind(given, GOAL) == {"windows": 0, "silent": None}


@pytest.mark.parametrize(
    ("event", "end"),
    [("09:09:00", "09:14:00"), ("09:09:59", "09:14:00"), ("09:10:00", "09:15:00"), ("23:59:00", "00:04:00")],
)
def test_end_of_the_last_window_that_holds_an_event(event: str, end: str) -> None:
    found = last_window_end(parse_time(f"2013-02-01T{event}Z"), timedelta(minutes=5), timedelta(minutes=1))
    assert found.strftime("%H:%M:%S") == end


def test_time_without_zone_is_utc() -> None:
    assert parse_time("2013-01-01T00:00:00") == parse_time("2013-01-01T00:00:00Z")


def test_failed_query_is_named_with_one_line() -> None:
    queries = [{"name": "a", "exception": None}, {"name": "b", "exception": "\nlost broker\n  at java.lang"}]
    assert failed_query({"queries": queries}) == "query b failed: lost broker"
    assert failed_query(document(CAUGHT_UP)) == ""


def test_compact_batch() -> None:
    entry = compact("windows", batch("2013-02-01T09:14:00Z", source(0, 10, 15), source(1, 20, 40)))
    assert (entry["rows"], entry["lag"], entry["late_rows"], entry["state_rows"]) == (30, 25, 2, 7)
    assert (entry["batch_ms"], entry["phases_ms"]) == (60, {"addBatch": 50})


def test_history_keeps_each_batch_once_over_a_restart() -> None:
    first, second = batch(None, number=1), batch(None, number=2)
    again, third = batch(None, number=2, run="r2"), batch(None, number=3, run="r2")
    known = merge_history([], document(first, second))
    merged = merge_history(known, document(second, again))
    merged = merge_history(merged, document(again, third))
    assert [(entry["run_id"], entry["batch_id"]) for entry in merged] == [("r1", 1), ("r1", 2), ("r2", 2), ("r2", 3)]
