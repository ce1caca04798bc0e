"""The comparison with an independent computation: it must notice every single wrong window."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from millrace import records, verification
from millrace.errors import MillraceError
from millrace.verification import (
    Verification,
    Windows,
    connection,
    load_expected,
    rows,
    scalar,
    source_files,
    verify,
)

WINDOWS = Windows(first_day=date(2013, 3, 9), days=2, length=timedelta(minutes=5), slide=timedelta(minutes=1))
"""Across the night in which the clocks went forward in the United States."""


@dataclass(frozen=True)
class Record:
    """What a Kafka consumer returns, as far as it is used."""

    where: int
    position: int
    name: bytes
    content: bytes

    def partition(self) -> int:
        return self.where

    def offset(self) -> int:
        return self.position

    def key(self) -> bytes:
        return self.name

    def value(self) -> bytes:
        return self.content


@pytest.fixture(scope="module")
def few_flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flights of the days around `WINDOWS`, cut out of the real file because reading all of it takes a while."""
    folder = tmp_path_factory.mktemp("flights")
    with source_files() as (flights, airports):
        lines = flights.read_text().splitlines(keepends=True)
        kept = [
            line for line in lines if line.startswith(("year", "2013,3,8,", "2013,3,9,", "2013,3,10,", "2013,3,11,"))
        ]
        (folder / "flights.csv").write_text("".join(kept))
        (folder / "airports.csv").write_text(airports.read_text())
    return folder


@pytest.fixture
def cut_source(few_flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def files() -> Iterator[tuple[Path, Path]]:
        yield few_flights / "flights.csv", few_flights / "airports.csv"

    monkeypatch.setattr(verification, "source_files", files)


quick = pytest.mark.usefixtures("cut_source")


def test_cut_source_gives_the_same_windows_as_the_whole(few_flights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for files in (source_files, lambda: nullcontext((few_flights / "flights.csv", few_flights / "airports.csv"))):
        monkeypatch.setattr(verification, "source_files", files)
        with connection() as database:
            load_expected(database, WINDOWS)
            found.append(database.execute("FROM expected ORDER BY ALL").fetchall())
    assert found[0] == found[1]


def write_table(folder: Path, *changes: str) -> str:
    """Write the expected windows to a Delta table, changed by SQL statements; return its URL."""
    from arro3.core import Table
    from deltalake import write_deltalake

    with connection() as database:
        load_expected(database, WINDOWS)
        for change in changes:
            database.execute(change)
        relation = database.sql(
            "SELECT to_timestamp(start_s) AS window_start, to_timestamp(end_s) AS window_end, event_type, events "
            "FROM expected"
        )
        write_deltalake(f"file://{folder}/table", Table.from_arrow(relation))
    return f"file://{folder}/table"


def check(url: str) -> Verification:
    return verify(WINDOWS, url, None, "")


@pytest.fixture(scope="module")
def some_window() -> dict[str, Any]:
    """A window with more than one event."""
    with connection() as database:
        load_expected(database, WINDOWS)
        query = "SELECT * FROM expected WHERE events > 1 ORDER BY start_s, event_type LIMIT 1 OFFSET 100"
        return rows(database, query)[0]


def where(window: dict[str, Any]) -> str:
    return f"WHERE start_s = {window['start_s']} AND event_type = '{window['event_type']}'"


@quick
def test_equal_tables_pass(tmp_path: Path) -> None:
    found = check(write_table(tmp_path))
    assert found.passed
    assert found.failure() == ""
    assert found.expected_windows == found.comparisons[0].rows > 1000
    assert sum(row["windows"] for row in found.by_hour) == found.expected_windows


@quick
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE expected SET events = events + 1 {where}", "has {more} (expected {count})"),
        ("UPDATE expected SET events = events - 1 {where}", "has {less} (expected {count})"),
        ("DELETE FROM expected {where}", "is missing (expected {count})"),
        ("INSERT INTO expected SELECT * FROM expected {where}", "is there 2 times"),
        ("UPDATE expected SET end_s = end_s + 60 {where}", "ends at another time"),
    ],
)
def test_one_wrong_window_is_named(tmp_path: Path, some_window: dict[str, Any], change: str, complaint: str) -> None:
    found = check(write_table(tmp_path, change.format(where=where(some_window))))
    assert not found.passed
    assert found.comparisons[0].differing == 1
    count = some_window["events"]
    assert complaint.format(count=count, more=count + 1, less=count - 1) in found.failure()
    with connection() as database:
        start = database.execute(
            "SELECT strftime(make_timestamp(?), '%Y-%m-%dT%H:%M:%SZ')", [some_window["start_s"] * 10**6]
        )
        assert f"window {start.fetchall()[0][0]} {some_window['event_type']}" in found.failure()


@quick
def test_window_that_should_not_exist_is_named(tmp_path: Path) -> None:
    found = check(write_table(tmp_path, "INSERT INTO expected VALUES (0, 300, 'departed', 4)"))
    assert found.comparisons[0].differing == 1
    assert "window 1970-01-01T00:00:00Z departed should not exist (has 4)" in found.failure()


@quick
def test_shift_by_one_slide_is_noticed_everywhere(tmp_path: Path) -> None:
    found = check(write_table(tmp_path, "UPDATE expected SET start_s = start_s + 60, end_s = end_s + 60"))
    assert found.comparisons[0].differing > 1000
    assert len(found.comparisons[0].differences) == verification.SHOWN_DIFFERENCES


@quick
def test_range_without_flights_does_not_pass(tmp_path: Path) -> None:
    url = write_table(tmp_path, "DELETE FROM expected")
    empty = Windows(date(2012, 1, 1), 1, timedelta(minutes=5), timedelta(minutes=1))
    found = verify(empty, url, None, "")
    assert not found.passed
    assert "no flight in that range" in found.failure()


@quick
def test_missing_table_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MillraceError, match=r"Cannot read the Delta table .*see the driver's log") as caught:
        check(f"file://{tmp_path}/none")
    assert "\n" not in str(caught.value)


def topic_records(change: str = "") -> Iterator[Record]:
    """The expected windows as Kafka records, each twice: first with a wrong count, then (unless changed) right."""
    with connection() as database:
        load_expected(database, WINDOWS)
        database.execute("CREATE TABLE right_ones AS FROM expected")
        if change:
            database.execute(change)
        template = (
            "SELECT strftime(make_timestamp(start_s * 1000000), '%Y-%m-%dT%H:%M:%S.000Z') AS a, "
            "strftime(make_timestamp(end_s * 1000000), '%Y-%m-%dT%H:%M:%S.000Z') AS b, event_type AS c, events AS d "
            "FROM right_ones"
        )
        windows = rows(database, template)
    for offset, (window, wrong) in enumerate([(w, 1) for w in windows] + [(w, 0) for w in windows]):
        key = f"{window['a']}|{window['c']}"
        value = (
            f'{{"window_start":"{window["a"]}","window_end":"{window["b"]}",'
            f'"event_type":"{window["c"]}","events":{window["d"] + wrong}}}'
        )
        yield Record(0, offset, key.encode(), value.encode())


@quick
def test_last_record_of_a_key_counts_in_the_topic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = write_table(tmp_path)
    monkeypatch.setattr(records, "read_topic", lambda *_: topic_records())
    found = verify(WINDOWS, url, {}, "windows")
    assert found.passed
    assert (found.comparisons[1].rows, found.comparisons[1].records) == (
        found.expected_windows,
        2 * found.expected_windows,
    )


@quick
def test_wrong_topic_fails_beside_a_right_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, some_window: dict[str, Any]
) -> None:
    url = write_table(tmp_path)
    change = "UPDATE right_ones SET events = events + 1 " + where(some_window)
    monkeypatch.setattr(records, "read_topic", lambda *_: topic_records(change))
    found = verify(WINDOWS, url, {}, "windows")
    assert [comparison.differing for comparison in found.comparisons] == [0, 1]
    assert "in the Kafka topic windows differ" in found.failure()


@quick
def test_record_that_is_no_window_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = write_table(tmp_path)
    monkeypatch.setattr(records, "read_topic", lambda *_: iter([Record(0, 0, b"k", b"not json")]))
    with pytest.raises(MillraceError, match="windows holds a record that is not a window") as caught:
        verify(WINDOWS, url, {}, "windows")
    assert "\n" not in str(caught.value)


def test_events_of_the_year_are_those_that_the_source_is_known_to_hold() -> None:
    """The figures are those of ingest/README.md, found there by other means."""
    year = Windows(date(2013, 1, 1), 365, timedelta(minutes=5), timedelta(minutes=1))
    with connection() as database:
        load_expected(database, year)
        counts = dict(database.execute("SELECT event_type, count(*) FROM events GROUP BY ALL").fetchall())
        assert counts == {"departed": 328_521, "arrived": 327_346, "cancelled": 8_255, "diverted": 1_175}
        # Five windows of five minutes each hold an event, if they slide by one.
        assert scalar(database, "SELECT sum(events)::BIGINT FROM expected") == 5 * sum(counts.values())


def test_event_times_of_flights_worked_out_by_hand() -> None:
    """UA 1545 to Houston: due 5:15, left 2 min late; due there 8:19 (an hour behind New York), came 11 min late."""
    with connection() as database:
        load_expected(database, Windows(date(2013, 1, 1), 1, timedelta(minutes=5), timedelta(minutes=1)))
        query = "SELECT count(*) FROM events WHERE event_type = ? AND event_time = ?::TIMESTAMP"
        for event_type, time in (("departed", "2013-01-01 10:17:00"), ("arrived", "2013-01-01 14:30:00")):
            assert database.execute(query, [event_type, time]).fetchall()[0][0] >= 1
        assert scalar(database, "SELECT count(*) FROM events WHERE event_time < '2013-01-01 10:17:00'") == 0


def test_windows_of_other_lengths_slide_too() -> None:
    windows = Windows(date(2013, 1, 1), 1, timedelta(minutes=10), timedelta(minutes=4))
    with connection() as database:
        load_expected(database, windows)
        # A window of 10 min that slides by 4 holds an event two or three times, by its minute.
        total = scalar(database, "SELECT sum(events)::BIGINT FROM expected")
        by_hand = scalar(database, "SELECT sum(2 + (epoch(event_time)::BIGINT % 240 < 120)::INT)::BIGINT FROM events")
        assert total == by_hand


def test_verification_does_not_need_what_it_verifies() -> None:
    code = (
        "import sys, millrace.verification, millrace.steps, millrace.report\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('ingest', 'streamkit', 'pyspark')])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
