"""The feature store: which sets of features there are, and how they are joined without a look into the future.

A set is a Delta table `features_<name>_v<N>`, one row for each key and event time. The event time is the instant from
which on the row's values could be known. A set whose meaning changes is a new version, beside the old one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from millrace.errors import MillraceError

if TYPE_CHECKING:
    import duckdb

EVENT_TIME, DAY = "event_time", "day"
"""Columns of each set: the instant of a row, and its date in UTC, by which the table is partitioned."""


@dataclass(frozen=True)
class Feature:
    """One column of a set, and what its values may be."""

    name: str
    minimum: float
    maximum: float
    nulls: float = 0.0
    """The largest share of rows without a value: 0 to 1."""


@dataclass(frozen=True)
class FeatureSet:
    """One table of the feature store."""

    name: str
    version: int
    keys: tuple[str, ...]
    features: tuple[Feature, ...]

    @property
    def table(self) -> str:
        """The Delta table's name; the SQL file that computes it has the same."""
        return f"features_{self.name}_v{self.version}"

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the features."""
        return tuple(feature.name for feature in self.features)


AIRPORT = FeatureSet(
    name="airport",
    version=1,
    keys=("origin",),
    features=(
        Feature("departures_3h", 0, 300),
        Feature("cancellations_3h", 0, 300),
        # Nobody leaves at night, nor for most of the day of a blizzard (9 February: 68 %).
        Feature("mean_delay_3h", -60, 1500, nulls=0.7),
        # The recording of the weather begins six hours after the first of January does.
        Feature("temperature_f", -20, 120, nulls=0.3),
        Feature("wind_mph", 0, 120, nulls=0.3),
        Feature("rain_inch", 0, 5, nulls=0.3),
        Feature("visibility_miles", 0, 10, nulls=0.3),
    ),
)
CARRIER = FeatureSet(
    name="carrier",
    version=1,
    keys=("carrier",),
    features=(
        Feature("departures_24h", 0, 1000),
        # On the first of January there are no 24 hours to look back on: 57 %.
        Feature("mean_delay_24h", -60, 1500, nulls=0.6),
        Feature("late_share_24h", 0, 1, nulls=0.6),
    ),
)
FEATURE_SETS = (AIRPORT, CARRIER)


def point_in_time(
    database: "duckdb.DuckDBPyConnection",
    labels: str,
    features: str,
    keys: Sequence[str],
    at: str,
    max_age: timedelta | None = None,
) -> "duckdb.DuckDBPyRelation":
    """Join each label with the features that were known at its own instant: the newest of its keys, never a later one.

    `labels` and `features` name tables or views of `database`; `at` is the labels' column with the instant, and the
    features have `event_time`. A label without features keeps its row, with nulls; so does one whose features are
    older than `max_age`. Raises MillraceError if a column is missing, or if features and labels share one that is no
    key.
    """
    label_columns, feature_columns = _columns(database, labels), _columns(database, features)
    for name, needed, there in ((labels, [*keys, at], label_columns), (features, [*keys, EVENT_TIME], feature_columns)):
        if missing := [column for column in needed if column not in there]:
            raise MillraceError(
                f"{name} has no column {', '.join(missing)} to be joined by: it has {', '.join(there)}."
            )
    values = [column for column in feature_columns if column not in (*keys, EVENT_TIME, DAY)]
    if shared := [column for column in values if column in label_columns]:
        raise MillraceError(f"{labels} and {features} both have {', '.join(shared)}: rename one of them.")
    # Newest at or before the label's instant; a row of exactly that instant was known.
    on = " AND ".join([*(f'l."{key}" = f."{key}"' for key in keys), f'l."{at}" >= f.{EVENT_TIME}'])
    fresh = f"to_seconds({max_age.total_seconds()})" if max_age else None
    chosen = [
        f'CASE WHEN l."{at}" - f.{EVENT_TIME} <= {fresh} THEN f."{column}" END AS "{column}"'
        if fresh
        else f'f."{column}"'
        for column in values
    ]
    return database.sql(f"SELECT {', '.join(['l.*', *chosen])} FROM {labels} l ASOF LEFT JOIN {features} f ON {on}")  # noqa: S608


def _columns(database: "duckdb.DuckDBPyConnection", name: str) -> list[str]:
    return list(database.table(name).columns)
