"""Records of the real generators on a broker, what an app's driver says of itself, and what DuckDB reads of a topic."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from embedded.paths import REPOSITORY
from tests.embedded.spark_driver import Driver, Topics

Progress = list[dict[str, Any]]


def simulate(topics: Topics, command: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m ingest <command>` into the input topic as fast as possible; return its summary."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "MILLRACE_"))}
    run = subprocess.run(
        [sys.executable, "-m", "ingest", command, f"--topic={topics.events}", "--fast", *arguments],
        env=kept | {"KAFKA_BOOTSTRAP_SERVERS": topics.servers},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    summary: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return summary


def send_again(topics: Topics, records: Sequence[Any], partition: int | None = None) -> int:
    """Send records once more, to their own partition or to another; return how many."""
    for record in records:
        topics.send(record.partition() if partition is None else partition, [record.value()], record.key())
    topics.producer.flush()
    return len(records)


def total(progress: Progress, name: str) -> int:
    """A state operator's figure, or one of its own metrics, over all batches."""
    operators = [operator for each in progress for operator in each["stateOperators"]]
    return sum(operator.get(name) or operator.get("customMetrics", {}).get(name, 0) for operator in operators)


def read_rows(progress: Progress) -> int:
    """Records that all batches have read."""
    return sum(each["numInputRows"] for each in progress)


def bad_records(progress: Progress) -> int:
    """Invalid records that all batches have observed."""
    observed = [figures for each in progress for figures in (each.get("observedMetrics") or {}).values()]
    return sum(value for figures in observed for name, value in figures.items() if name.startswith("count_"))


@contextmanager
def table_of(driver: Driver, name: str) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Give a DuckDB with the driver's Delta table as `found`, times in UTC."""
    files = DeltaTable(str(driver.storage / "tables" / name)).file_uris()
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute("CREATE TABLE found AS SELECT * FROM read_parquet(?)", [files])
        yield database


def load_messages(database: "duckdb.DuckDBPyConnection", records: Iterable[Any]) -> None:
    """Make the table `messages` (message, as JSON) of the records whose value is JSON."""
    with tempfile.TemporaryDirectory(prefix="millrace-test-") as folder:
        file = Path(folder) / "messages.jsonl"
        values = [(record.value() or b"").decode(errors="replace") for record in records]
        file.write_text("".join(json.dumps({"value": value}) + "\n" for value in values))
        database.execute(
            "CREATE OR REPLACE TABLE messages AS SELECT TRY_CAST(value AS JSON) AS message "
            "FROM read_json(?, columns = {'value': 'VARCHAR'})",
            [str(file)],
        )


def letters_of(topics: Topics) -> dict[tuple[int, int], str]:
    """The reason of each dead letter, by source partition and offset."""
    found = {}
    for record in topics.read(topics.dead):
        headers = {name: value.decode() for name, value in record.headers()}
        assert headers["source-topic"] == topics.events
        found[int(headers["source-partition"]), int(headers["source-offset"])] = headers["reason"]
    return found
