"""Checks the windows and alerts of the app `air-quality` against its input, computed another way.

The input is read from its topic; DuckDB makes windows of it, by the rules of spark-apps/air-quality/README.md, written
down once more in SQL. Every window must be in the Delta table once, and every alert, no more and no less, in the topic
of the alerts, where the last record of a key counts because it is written at least once.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from millrace.verification import SHOWN_DIFFERENCES, SQL_FOLDER, connection, load_records, load_windows, rows, scalar
from millrace.verification import run_on_records as run

if TYPE_CHECKING:
    import duckdb

COLUMNS = {
    "location": "VARCHAR",
    "readings": "BIGINT",
    "avg_pm25": "DOUBLE",
    "avg_pm10": "DOUBLE",
    "avg_temperature": "DOUBLE",
    "avg_humidity": "DOUBLE",
}
"""The columns of the Delta table besides the window's bounds."""


@dataclass(frozen=True)
class Places:
    """Where the app's input and its results are, and what it was asked to find."""

    topic: str
    alerts_topic: str
    table_url: str
    pm25_limit: float
    """Micrograms per cubic metre."""
    length: timedelta
    slide: timedelta


@dataclass
class Findings:
    """What `verify` found."""

    readings: int
    """Different readings in the input topic."""
    windows: int
    """Windows that there should be."""
    alerts: int
    """Those of them above the limit."""
    differing_windows: int
    differing_alerts: int
    differences: list[str] = field(default_factory=list)
    """The first windows and alerts that differ, one clause each."""

    @property
    def passed(self) -> bool:
        """True if there was something to compare and nothing differs."""
        return self.windows > 0 and not self.differing_windows and not self.differing_alerts

    def failure(self) -> str:
        """Say what differs, in one sentence; empty if nothing does."""
        if self.passed:
            return ""
        if not self.windows:
            return "The input topic holds no reading, so there is nothing to verify: see the generator's log."
        counts = f"{self.differing_windows:,} windows and {self.differing_alerts:,} alerts differ"
        return f"{counts}: " + "; ".join(self.differences)

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain values, with the verdict."""
        return {**asdict(self), "passed": self.passed, "failure": self.failure()}


def verify(places: Places, kafka_config: Mapping[str, Any]) -> Findings:
    """Compare the Delta table and the alerts' topic with what the input topic gives.

    Raises MillraceError if a topic or the table can't be read. A difference is no error: see the result's `passed`.
    """
    with connection() as database:
        _load_expected(database, places, kafka_config)
        load_windows(database, places.table_url, "actual_windows", COLUMNS)
        _load_alerts(database, places.alerts_topic, kafka_config)
        database.execute((SQL_FOLDER / "air_quality_compare.sql").read_text())
        return Findings(
            readings=scalar(database, "SELECT count(*) FROM readings"),
            windows=scalar(database, "SELECT count(*) FROM expected"),
            alerts=scalar(database, "SELECT count(*) FROM expected WHERE above"),
            differing_windows=scalar(database, "SELECT count(*) FROM differing_windows"),
            differing_alerts=scalar(database, "SELECT count(*) FROM differing_alerts"),
            differences=_first(database, "window", "differing_windows") + _first(database, "alert", "differing_alerts"),
        )


def read_alerts(topic: str, kafka_config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the alerts of a topic, each once, oldest first: window_start, location, pm25, limit, readings.

    Raises MillraceError if the topic can't be read.
    """
    with connection() as database:
        _load_alerts(database, topic, kafka_config)
        found = rows(
            database,
            "SELECT strftime(make_timestamp(start_s * 1000000), '%Y-%m-%dT%H:%M:%SZ') AS window_start, location, pm25, "
            'readings, "limit" FROM actual_alerts ORDER BY start_s, location',
        )
    return found


def by_location(alerts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each location with alerts, how many, and the worst one; the worst location first."""
    worst: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for alert in alerts:
        place = alert["location"]
        counts[place] = counts.get(place, 0) + 1
        if place not in worst or alert["pm25"] > worst[place]["pm25"]:
            worst[place] = alert
    ordered = sorted(worst.values(), key=lambda alert: -alert["pm25"])
    return [
        {
            "location": alert["location"],
            "alerts": counts[alert["location"]],
            "worst_pm25": alert["pm25"],
            "worst_window": alert["window_start"],
        }
        for alert in ordered
    ]


def _load_expected(database: "duckdb.DuckDBPyConnection", places: Places, config: Mapping[str, Any]) -> None:
    """Make the tables `readings` and `expected` of the input topic."""
    load_records(database, config, places.topic)
    parameters = {
        "length": int(places.length.total_seconds()),
        "slide": int(places.slide.total_seconds()),
        "pm25_limit": places.pm25_limit,
    }
    run(database, places.topic, "air_quality_expected.sql", parameters)


def _load_alerts(database: "duckdb.DuckDBPyConnection", topic: str, config: Mapping[str, Any]) -> None:
    """Make the table `actual_alerts` of the alerts' topic."""
    load_records(database, config, topic)
    run(database, topic, "air_quality_alerts.sql", {})


def _first(database: "duckdb.DuckDBPyConnection", what: str, table: str) -> list[str]:
    found = rows(
        database,
        f"SELECT strftime(make_timestamp(start_s * 1000000), '%Y-%m-%dT%H:%M:%SZ') AS start, location, problem "  # noqa: S608
        f"FROM {table} ORDER BY start_s, location LIMIT {SHOWN_DIFFERENCES}",
    )
    return [f"the {what} of {row['location']} at {row['start']} {row['problem']}" for row in found]
