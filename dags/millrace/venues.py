"""Market hours: which venues traded in an interval, by the calendars of exchange_calendars (venues.yaml)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import yaml

from millrace.errors import MillraceError

VENUES_FILE = Path(__file__).parent / "venues.yaml"
LOOK_AHEAD = timedelta(days=14)
"""The longest closure that the next opening is looked for behind."""


@dataclass(frozen=True)
class Hours:
    """What a venue did in an interval. Times are in UTC."""

    venue: str
    calendar: str
    opened: tuple[tuple[datetime, datetime], ...]
    """When it was open in the interval: from, until."""
    open_at_end: bool
    next_open: datetime | None
    """None where it is open at the interval's end, or opens within two weeks not at all."""

    @property
    def was_open(self) -> bool:
        """True if it was open for at least a part of the interval."""
        return bool(self.opened)


@dataclass(frozen=True)
class Venues:
    """Which calendar each venue has."""

    calendars: Mapping[str, str]
    default: str


def load(path: Path = VENUES_FILE) -> Venues:
    """Read which venues there are. Raises MillraceError if the file isn't as it should be."""
    try:
        found = yaml.safe_load(path.read_text())
        return Venues({str(name): str(calendar) for name, calendar in found["venues"].items()}, str(found["default"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise MillraceError(
            f"{path} does not say when venues trade ({detail}): see the one in the repository."
        ) from error


def hours(venues: Venues, names: Iterable[str], start: datetime, end: datetime) -> list[Hours]:
    """Return what each venue did from `start` to before `end`. Raises MillraceError for a calendar that isn't known."""
    known: dict[str, tuple[tuple[tuple[datetime, datetime], ...], bool, datetime | None]] = {}
    found = []
    for name in sorted(names):
        calendar = venues.calendars.get(name, venues.default)
        if calendar not in known:
            known[calendar] = _calendar_hours(calendar, start, end)
        found.append(Hours(name, calendar, *known[calendar]))
    return found


def _calendar_hours(
    name: str, start: datetime, end: datetime
) -> tuple[tuple[tuple[datetime, datetime], ...], bool, datetime | None]:
    import exchange_calendars
    import pandas

    try:
        calendar = exchange_calendars.get_calendar(
            name,
            start=pandas.Timestamp((start - LOOK_AHEAD).date()),
            end=pandas.Timestamp((end + LOOK_AHEAD).date()),
        )
    except exchange_calendars.errors.InvalidCalendarName:
        raise MillraceError(
            f"There is no calendar {name!r}: name one of exchange_calendars in {VENUES_FILE}."
        ) from None
    begins = [stamp.to_pydatetime() for stamp in calendar.opens]
    ends = [stamp.to_pydatetime() for stamp in calendar.closes]
    # A lunch break (Tokyo, Hong Kong) makes two of a session.
    for pause, back in zip(calendar.break_starts, calendar.break_ends, strict=True):
        if not pandas.isna(pause):
            ends.append(pause.to_pydatetime())
            begins.append(back.to_pydatetime())
    sessions = list(zip(sorted(begins), sorted(ends), strict=True))
    opened = tuple((max(begin, start), min(close, end)) for begin, close in sessions if begin < end and close > start)
    open_at_end = any(begin < end <= close for begin, close in sessions)
    later = [begin for begin, _ in sessions if begin >= end]
    return opened, open_at_end, None if open_at_end or not later else min(later)
