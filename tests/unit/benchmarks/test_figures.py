"""The benchmarks' arithmetic: a wrong figure would look like any other."""

import datetime as dt
import json

import pytest

from benchmarks import events, latency
from benchmarks.latency import Sent
from benchmarks.table import Row
from benchmarks.throughput import rates
from ingest import contracts


def utc_ms(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize("number", [0, 1, 2, 3, 999_999, 4_999_999])
def test_every_event_has_the_stated_size_and_keeps_the_contract(number: int) -> None:
    value = events.event(number, b"2013-01-01T00:00:00Z")
    assert len(value) == events.EVENT_BYTES
    contracts.load("events").check(json.loads(value))


def test_percentiles_are_nearest_rank() -> None:
    found = latency.summary(list(range(1, 101)))
    assert (found.p50, found.p99, found.max, found.events) == (50, 99, 100, 100)


def test_no_match_is_an_error_and_not_a_good_latency() -> None:
    with pytest.raises(RuntimeError, match="no output record"):
        latency.summary([])


def test_a_filtered_event_is_matched_by_key_and_its_first_append_counts() -> None:
    sent = [Sent(1000, 0), Sent(1001, 1), Sent(1002, 4)]
    output = [
        (1050, b"bench/000000000000", b""),
        (1070, b"bench/000000000000", b""),
        (1102, b"bench/000000000004", b""),
    ]
    assert latency.of_filter(sent, output) == [(1000, 50), (1002, 100)]


def test_an_update_of_a_window_counts_the_events_since_the_last_update() -> None:
    minute = utc_ms("2026-01-01T00:05:00+00:00")
    kind = events.EVENT_TYPES[0]
    sent = [Sent(minute + 10 * index, index * len(events.EVENT_TYPES)) for index in range(4)]

    def update(at: int, count: int) -> tuple[int, bytes, bytes]:
        row = {"window_start": "2026-01-01T00:05:00Z", "event_type": kind, "events": count}
        return at, b"", json.dumps(row).encode()

    found = latency.of_windows(sent, [update(minute + 100, 3), update(minute + 200, 4)])
    assert found == [(minute, 100), (minute + 10, 90), (minute + 20, 80), (minute + 30, 170)]


def test_an_event_counts_once_in_its_newest_window_only() -> None:
    minute = utc_ms("2026-01-01T00:05:00+00:00")
    sent = [Sent(minute + 5, 0)]
    rows = [
        {"window_start": f"2026-01-01T00:0{n}:00Z", "event_type": events.EVENT_TYPES[0], "events": 1}
        for n in range(1, 6)
    ]
    found = latency.of_windows(sent, [(minute + 55, b"", json.dumps(row).encode()) for row in rows])
    assert found == [(minute + 5, 50)]


def test_latencies_are_split_into_runs_by_produce_time() -> None:
    runs = latency.segments([(0, 9), (1000, 1), (1999, 3), (2000, 7)], begin=1000, seconds=1, count=2)
    assert [(run.max, run.events) for run in runs] == [(3, 2), (7, 1)]


def test_the_whole_run_includes_the_first_batch_and_the_batch_that_writes_the_last_windows() -> None:
    def batch(second: int, rows: int, milliseconds: int) -> dict:
        return {
            "timestamp": f"2026-01-01T00:00:{second:02d}.000Z",
            "numInputRows": rows,
            "processedRowsPerSecond": rows / (milliseconds / 1000),
            "durationMs": {"triggerExecution": milliseconds, "addBatch": milliseconds - 10},
        }

    found = rates([batch(0, 1000, 5000), batch(5, 1000, 1000), batch(6, 1000, 2000), batch(8, 0, 2000)])
    assert found.whole_run == 300
    assert found.steady_state == 750


def test_a_row_shows_median_range_and_ratio() -> None:
    row = Row("section", "what", "rows/s", [100, 300, 200], "500", [0.1, 0.3, 0.2])
    assert row.cells() == ("what", "200 rows/s", "100 to 300 (3)", "0.20", "500")
