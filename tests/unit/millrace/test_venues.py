"""Market hours by real calendars: nights, weekends, holidays, early closes, lunch breaks."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millrace import venues
from millrace.errors import MillraceError

VENUES = venues.Venues({"nyse": "XNYS", "tokyo": "XTKS", "forex": "24/5", "binance": "24/7"}, "24/7")
QUARTER = timedelta(minutes=15)


def hours(venue: str, start: str, length: timedelta = QUARTER) -> venues.Hours:
    begin = datetime.fromisoformat(start).replace(tzinfo=UTC)
    (found,) = venues.hours(VENUES, [venue], begin, begin + length)
    return found


@pytest.mark.parametrize(
    ("venue", "start", "is_open", "at_end"),
    [
        ("binance", "2025-12-25 03:00", True, True),
        ("unknown", "2025-12-25 03:00", True, True),
        ("forex", "2025-11-22 12:00", False, False),  # a Saturday
        ("forex", "2025-11-24 12:00", True, True),
        ("nyse", "2025-11-24 14:15", False, False),  # opens at 14:30
        ("nyse", "2025-11-24 14:30", True, True),
        ("nyse", "2025-11-24 20:45", True, True),
        ("nyse", "2025-11-24 21:00", False, False),
        ("nyse", "2025-07-07 13:30", True, True),  # summer time
        ("nyse", "2025-11-27 15:00", False, False),  # Thanksgiving
        ("nyse", "2025-11-28 18:00", False, False),  # the day after: closes at 18:00
        ("tokyo", "2025-11-21 02:45", False, False),  # lunch, 02:30 to 03:30
        ("tokyo", "2025-11-21 03:30", True, True),
    ],
)
def test_open_or_closed(venue: str, start: str, is_open: bool, at_end: bool) -> None:
    found = hours(venue, start)
    assert (found.was_open, found.open_at_end) == (is_open, at_end)


def test_a_part_of_an_interval() -> None:
    found = hours("nyse", "2025-11-24 14:00", timedelta(hours=1))
    assert found.opened == ((datetime(2025, 11, 24, 14, 30, tzinfo=UTC), datetime(2025, 11, 24, 15, tzinfo=UTC)),)


def test_closed_until_when() -> None:
    """From Friday evening to Monday morning."""
    assert hours("nyse", "2025-11-21 22:00").next_open == datetime(2025, 11, 24, 14, 30, tzinfo=UTC)
    assert hours("nyse", "2025-11-24 15:00").next_open is None


def test_the_venues_of_the_repository_have_calendars_that_exist() -> None:
    known = venues.load()
    begin = datetime(2025, 11, 22, tzinfo=UTC)
    found = venues.hours(known, known.calendars, begin, begin + QUARTER)
    assert {venue.venue for venue in found} >= {"binance", "coinbase"}
    assert all(venue.was_open for venue in found)


def test_mistakes_are_named(tmp_path: Path) -> None:
    begin = datetime(2025, 11, 22, tzinfo=UTC)
    with pytest.raises(MillraceError, match="There is no calendar 'NYSSE'"):
        venues.hours(venues.Venues({"nyse": "NYSSE"}, "24/7"), ["nyse"], begin, begin + QUARTER)
    (tmp_path / "venues.yaml").write_text("venues: [binance]")
    with pytest.raises(MillraceError, match="does not say when venues trade"):
        venues.load(tmp_path / "venues.yaml")
