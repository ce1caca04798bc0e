"""What models are trained on: a table of numbers and the column `label`, in the order in which rows were known."""

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from millrace import tables, verification
from millrace.errors import MillraceError
from millrace.features import DAY, EVENT_TIME, FEATURE_SETS, point_in_time
from millrace.staging import register

if TYPE_CHECKING:
    import duckdb
    import polars as pl

    from millrace.flight_features import Days

LABEL = "label"
BREAST_CANCER, DIGITS, FLIGHTS = "breast-cancer", "digits", "flights"
NAMES = (BREAST_CANCER, DIGITS, FLIGHTS)
MAX_FEATURE_AGE = timedelta(hours=24)


@dataclass(frozen=True)
class DataSet:
    """Rows with their label."""

    frame: "pl.DataFrame"
    in_time: bool
    """True if the rows are in the order of time: then a model is tried on what came later, not on a random part."""


def download(name: str, days: "Days | None" = None, late_minutes: int = 15) -> DataSet:
    """Return a data set: one that scikit-learn ships, or flights with the features that were known when they left.

    The label of a flight is whether it arrived more than `late_minutes` after its schedule. Raises MillraceError if
    there is no such set, or the feature store does not have those days.
    """
    if name == FLIGHTS:
        if days is None:
            raise MillraceError("The data set flights needs days: give from_date.")
        return DataSet(flights(days, late_minutes), in_time=True)
    if name not in NAMES:
        raise MillraceError(f"There is no data set {name}: choose one of {', '.join(NAMES)}.")
    from sklearn import datasets

    load = {BREAST_CANCER: datasets.load_breast_cancer, DIGITS: datasets.load_digits}[name]
    import polars as pl

    bunch = load()
    columns = [str(column).replace(" ", "_") for column in bunch.feature_names]
    return DataSet(pl.DataFrame(bunch.data, columns).with_columns(pl.Series(LABEL, bunch.target)), in_time=False)


def flights(days: "Days", late_minutes: int) -> "pl.DataFrame":
    """Return the flights of these days that arrived, as they left, with what was known at that moment."""
    import polars as pl

    from millrace.flight_features import extract

    with verification.connection() as database:
        extract(database, days)
        database.execute(
            """CREATE TABLE labels AS
            SELECT carrier, origin, departed_at AT TIME ZONE 'UTC' AS departed_at, dep_delay AS departure_delay,
                distance, hour(scheduled_at) AS scheduled_hour, isodow(scheduled_at) AS weekday,
                arr_delay > $late AS late
            FROM flights WHERE arr_delay IS NOT NULL AND scheduled_at >= $first""",
            {"late": late_minutes, "first": days.first},
        )
        current = "labels"
        for feature_set in FEATURE_SETS:
            _load_features(database, feature_set.table, days)
            joined = point_in_time(
                database, current, feature_set.table, feature_set.keys, "departed_at", max_age=MAX_FEATURE_AGE
            )
            current = f"with_{feature_set.name}"
            joined.create(current)
        known = database.sql(f"SELECT * FROM {current} ORDER BY departed_at, carrier, origin, distance")  # noqa: S608
        frame = pl.DataFrame(known)
    return frame.drop("carrier", "origin", "departed_at", "late").with_columns(
        frame["late"].cast(pl.Int64).alias(LABEL)
    )


def _load_features(database: "duckdb.DuckDBPyConnection", table: str, days: "Days") -> None:
    import polars as pl

    wanted = pl.col(DAY).is_between(days.first, days.end, closed="left")
    rows = tables.read(table, predicate=wanted) if tables.exists(table) else None
    there = 0 if rows is None else rows[DAY].n_unique()
    if rows is None or there < days.number:
        raise MillraceError(
            f"The feature store has {there} of the {days.number} days of {days} in {table}: run feature_engineering "
            f"with from_date {days.first} and days {days.number} first."
        )
    register(database, table, rows.sort(EVENT_TIME))
