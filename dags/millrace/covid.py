"""What `covid_etl` does: extract, transform, load, validate.

A run loads the days of its data interval and some before it, because figures are corrected as reports come in. It takes
the place of what the table holds of the same series and days, so that runs, retries and backfills in any order leave
each figure there once.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from millrace import contracts, records, storage, tables
from millrace.covid_api import Api, Series
from millrace.errors import MillraceError

if TYPE_CHECKING:
    import polars as pl

TABLE = "covid"
TOPIC, DEAD_LETTER_TOPIC = "covid-updates", "covid-updates-dead-letter"
SOURCE = "ukhsa"
KEY = ("geography_code", "metric", "date")
MOST_REJECTED = 0.05
"""Share of figures that may be unusable; with more, the source has changed."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}|COVID-19_[A-Za-z0-9_-]{1,90}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Days:
    """The days that a run loads: from `first` to before `end`."""

    first: date
    end: date

    @classmethod
    def of_interval(cls, start: datetime, end: datetime, revision_days: int) -> "Days":
        """The days that ended in a data interval, and those before it that may have been corrected."""
        last = end.astimezone(UTC).date()
        return cls(min(start.astimezone(UTC).date(), last - timedelta(days=1)) - timedelta(days=revision_days), last)

    @property
    def condition(self) -> str:
        """Which rows of the table are of these days, in SQL."""
        return f"date >= '{self.first}' AND date < '{self.end}'"


def extract(api: Api, days: Days, geography_types: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """Return the figures as the API gives them, and which series it lacks.

    Raises MillraceError if it has none of them, or doesn't answer.
    """
    figures: list[dict[str, Any]] = []
    missing: list[str] = []
    areas = [(kind, area) for kind in geography_types for area in api.areas(kind)]
    for kind, area in areas:
        for metric in metrics:
            found = api.figures(Series(kind, area, metric), days.first, days.end)
            if found is None:
                missing.append(f"{area}/{metric}")
            else:
                figures += found
    if missing:
        log.warning("The API has nothing of %s: what the table holds of it stays", ", ".join(missing))
    if len(missing) == len(areas) * len(metrics):
        raise MillraceError(
            f"The API has none of {', '.join(metrics)} for {', '.join(geography_types)}: "
            "correct the parameters of the run."
        )
    return {"figures": figures, "missing": missing}


def transform(figures: Iterable[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return `rows` that are fit for the table, `rejected` figures with their `reason`, and `duplicates`.

    Of two figures of the same day and series the later in the list counts.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    rejected, duplicates = [], []
    for figure in figures:
        reason = _defect(figure)
        if reason:
            rejected.append({"reason": reason, "figure": dict(figure)})
            continue
        row = {
            "geography_type": figure["geography_type"],
            "geography": figure["geography"],
            "geography_code": figure["geography_code"],
            "metric": figure["metric"],
            "date": figure["date"],
            "value": float(figure["metric_value"]),
            "provisional": bool(figure.get("in_reporting_delay_period")),
        }
        key = tuple(row[name] for name in KEY)
        if key in rows:
            duplicates.append(rows[key])
        rows[key] = row
    return {"rows": [rows[key] for key in sorted(rows)], "rejected": rejected, "duplicates": duplicates}


def _defect(figure: Mapping[str, Any]) -> str | None:
    """Say what makes a figure unusable; None if nothing does."""
    for name in ("geography_type", "geography", "geography_code", "metric", "date"):
        if not isinstance(figure.get(name), str) or not figure[name]:
            return f"{name} is missing"
    for name in ("geography_code", "metric"):
        if not _NAME.fullmatch(figure[name]):
            return f"{name} is {figure[name]!r}"
    try:
        date.fromisoformat(figure["date"])
    except ValueError:
        return f"date is {figure['date']!r}"
    # The figures come from all of a country's age groups and sexes; one of those would be counted twice.
    for name, total in (("age", "all"), ("sex", "all"), ("stratum", "default")):
        if figure.get(name, total) != total:
            return f"{name} is {figure[name]!r}, not the total"
    try:
        value = float(figure["metric_value"])
    except (KeyError, TypeError, ValueError):
        return f"metric_value is {figure.get('metric_value')!r}"
    return None if 0 <= value < float("inf") else f"metric_value is {value}"


def check_share(rows: int, rejected: Sequence[Mapping[str, Any]]) -> None:
    """Raise MillraceError if too many figures are unusable."""
    if len(rejected) > MOST_REJECTED * (rows + len(rejected)):
        reasons = Counter(str(item["reason"]) for item in rejected).most_common(3)
        told = ", ".join(f"{reason} ({count}x)" for reason, count in reasons)
        raise MillraceError(
            f"{len(rejected)} of {rows + len(rejected)} figures can't be used ({told}): "
            "see whether the API has changed."
        )


def frame(rows: Sequence[Mapping[str, Any]], loaded_at: datetime) -> "pl.DataFrame":
    """Return rows as the table holds them."""
    import polars as pl

    texts = ("geography_type", "geography", "geography_code", "metric", "date")
    schema = {**dict.fromkeys(texts, pl.String), "value": pl.Float64, "provisional": pl.Boolean}
    return pl.DataFrame(list(rows), schema=schema).with_columns(
        pl.col("date").str.to_date(), pl.lit(loaded_at).cast(pl.Datetime("us", "UTC")).alias("loaded_at")
    )


def changes(new: "pl.DataFrame", days: Days) -> "pl.DataFrame":
    """Return the rows that the table lacks or holds with another value, with that one as `previous_value`."""
    import polars as pl

    within = (pl.col("date") >= days.first) & (pl.col("date") < days.end)
    if tables.exists(TABLE):
        old = tables.read(TABLE, [*KEY, "value"], within).rename({"value": "previous_value"})
    else:
        old = new.clear().select(*KEY, pl.col("value").alias("previous_value"))
    both = new.join(old, on=list(KEY), how="left", maintain_order="left")
    return both.filter(pl.col("previous_value").is_null() | (pl.col("previous_value") != pl.col("value")))


def messages(changed: "pl.DataFrame", as_of: datetime) -> list[tuple[str, bytes, list[records.Header]]]:
    """Return a contract-keeping message for each changed row; the same run makes the same ids."""
    time = as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    made: list[tuple[str, bytes, list[records.Header]]] = []
    for row in changed.iter_rows(named=True):
        message = {
            "schema_version": 1,
            "event_id": f"{SOURCE}/{row['geography_code']}/{row['metric']}/{row['date']}/{row['value']:g}@{time}",
            "event_type": "new" if row["previous_value"] is None else "corrected",
            "event_time": time,
            "source": SOURCE,
            **{name: row[name] for name in ("geography_type", "geography", "geography_code", "metric")},
            "date": row["date"].isoformat(),
            "value": row["value"],
            "previous_value": row["previous_value"],
            "provisional": row["provisional"],
        }
        made.append((*contracts.encode(TOPIC, message), []))
    return made


def load(transformed: Mapping[str, Any], days: Days, as_of: datetime, config: Mapping[str, Any]) -> dict[str, int]:
    """Send what is new or corrected to the topic, what can't be used to its dead letters; then replace in the table.

    Sent before written: if the run is cut short between, the retry finds the same changes and sends them again with
    the same ids. The other way round they would never be sent.
    """
    rows = transformed["rows"]
    dead = [
        (SOURCE, json.dumps(item["figure"]).encode(), [("reason", item["reason"].encode())])
        for item in transformed["rejected"]
    ]
    new = frame(rows, as_of)
    changed = changes(new, days)
    sent = records.send_all(config, TOPIC, messages(changed, as_of))
    records.send_all(config, DEAD_LETTER_TOPIC, dead)
    series = sorted({(row["geography_code"], row["metric"]) for row in rows})
    if series:
        # Only series that were answered: what an area that is missing today had yesterday stays.
        which = " OR ".join(f"(geography_code = '{code}' AND metric = {_quoted(metric)})" for code, metric in series)
        tables.replace(TABLE, new, f"{days.condition} AND ({which})", partition_by=["metric"])
    return {"rows": len(rows), "sent": sent, "dead_letters": len(dead), "duplicates": len(transformed["duplicates"])}


def validate(days: Days, expected_rows: int) -> dict[str, Any]:
    """Check what the table holds of these days now. Raises MillraceError, naming what is wrong."""
    import polars as pl

    within = (pl.col("date") >= days.first) & (pl.col("date") < days.end)
    held = tables.read(TABLE, [*KEY, "value"], within)
    repeated = held.group_by(KEY).len().filter(pl.col("len") > 1)
    bad = held.filter(pl.col("value").is_null() | (pl.col("value") < 0))
    problems = [
        f"{repeated.height} figures are there more than once" if repeated.height else "",
        f"{bad.height} figures are missing or below 0" if bad.height else "",
        f"it holds {held.height} figures, fewer than the {expected_rows} loaded" if held.height < expected_rows else "",
    ]
    if any(problems):
        told = "; ".join(problem for problem in problems if problem)
        raise MillraceError(f"The table {storage.table_url(TABLE)} is wrong from {days.first} to {days.end}: {told}.")
    newest = held["date"].max()
    return {**{name: str(value) for name, value in asdict(days).items()}, "rows": held.height, "newest": str(newest)}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
