"""Forecasts how many events of each type each hour of the next day has, learnt from the hours before.

Pure functions on tables `hour`, `event_type`, `events`. A forecast for an hour uses nothing that is younger than a
day, so the whole next day can be forecast at its beginning.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.errors import MillraceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import polars as pl

DAY, WEEK = 24, 168
"""Hours."""
FEWEST_DAYS = 14
HOLD_OUT = 0.25
SEED = 20130101
INPUTS = ("type", "hour_of_day", "weekday", "yesterday", "last_week", "mean_of_week")


@dataclass(frozen=True)
class Forecast:
    """A fitted model, and how far it and the naive forecasts are off: mean absolute error, in events an hour."""

    model: Any
    types: "Sequence[str]"
    """The event types; a row's `type` is the position in here."""
    error: float
    same_as_yesterday: float
    same_as_last_week: float
    hold_out: "pl.DataFrame"
    """The hours that were held out: hour, event_type, events, forecast."""

    @property
    def naive(self) -> float:
        """The error of the better naive forecast: what the model must beat to be one."""
        return min(self.same_as_yesterday, self.same_as_last_week)

    @property
    def useful(self) -> bool:
        """True if the model beats the naive forecasts."""
        return self.error < self.naive


def train(hours: "pl.DataFrame") -> Forecast:
    """Learn from the older hours, and forecast the newest quarter, which the model hasn't seen.

    Raises MillraceError if there are fewer than two weeks: then there is nothing to compare a week with.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    rows = inputs(hours)
    instants = rows["hour"].unique().sort()
    days = hours["hour"].dt.date().n_unique()
    if days < FEWEST_DAYS:
        raise MillraceError(f"The history has {days} days, and a forecast needs {FEWEST_DAYS}: aggregate more first.")
    cut: datetime = instants[round(len(instants) * (1 - HOLD_OUT))]
    older, newer = rows.filter(rows["hour"] < cut), rows.filter(rows["hour"] >= cut)
    model = HistGradientBoostingRegressor(
        loss="poisson", categorical_features=[0], max_iter=150, early_stopping=False, random_state=SEED
    )
    with threadpool_limits(1):
        model.fit(older.select(INPUTS).to_numpy(), older["events"].to_numpy())
        said = model.predict(newer.select(INPUTS).to_numpy())
    held = newer.select("hour", "event_type", "events").with_columns(forecast=said)
    return Forecast(
        model=model,
        types=sorted(hours["event_type"].unique()),
        error=_error(newer, said),
        same_as_yesterday=_error(newer, newer["yesterday"].to_numpy()),
        same_as_last_week=_error(newer, newer["last_week"].to_numpy()),
        hold_out=held,
    )


def inputs(hours: "pl.DataFrame") -> "pl.DataFrame":
    """Return each hour and type from the second week on, with what was known a day before.

    An hour in which nothing happened isn't in `hours`; here it is, with 0 events.
    """
    import polars as pl

    types = sorted(hours["event_type"].unique())
    grid = hours.select(pl.datetime_range(pl.col("hour").min(), pl.col("hour").max(), "1h"))
    full = (
        grid.join(pl.DataFrame({"event_type": types}, schema={"event_type": pl.String}), how="cross")
        .join(hours.group_by("hour", "event_type").agg(pl.col("events").sum()), on=["hour", "event_type"], how="left")
        .with_columns(pl.col("events").fill_null(0))
        .sort("event_type", "hour")
    )
    events = pl.col("events")
    return full.with_columns(
        type=pl.col("event_type").replace_strict(types, list(range(len(types))), return_dtype=pl.Int64),
        hour_of_day=pl.col("hour").dt.hour(),
        weekday=pl.col("hour").dt.weekday(),
        yesterday=events.shift(DAY).over("event_type"),
        last_week=events.shift(WEEK).over("event_type"),
        mean_of_week=pl.mean_horizontal(*(events.shift(DAY * days).over("event_type") for days in range(1, 8))),
    ).drop_nulls("last_week")


def _error(rows: "pl.DataFrame", said: Any) -> float:
    return float(abs(rows["events"].to_numpy() - said).mean())
