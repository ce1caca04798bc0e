"""Checks what `stream-join` made of orders: the same join, computed by DuckDB, against both sinks.

The orders come from the topic itself, the products from the very version of their table that a row says it was joined
with. The Delta table is compared row by row, the topic by the last record of each key (it is written at least once).
"""

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace import kafka, reading, records, storage
from millrace.errors import MillraceError
from millrace.verification import SQL_FOLDER, connection, rows, scalar

if TYPE_CHECKING:
    import duckdb

SHOWN = 10
"""Rows of an excerpt, and differing orders that a failure names."""

log = logging.getLogger(__name__)


def reference_version(table: str) -> int:
    """Return the newest version of a reference table, and log the table."""
    from millrace.operators.base import one_sentence

    with one_sentence(log), connection() as database:
        version = reading.newest_version(storage.table_url(table))
        reading.load(database, "reference", storage.table_url(table), version)
        found = rows(database, "SELECT * FROM reference ORDER BY ALL")
    log.info("Version %d of %s holds %d rows:\n%s", version, table, len(found), reading.as_text(found[:50]))
    return version


def verify_orders(input_topic: str, reference: str, table: str, topic: str) -> dict[str, Any]:
    """Compare both sinks with the join that DuckDB computes; log an excerpt.

    Returns orders, matched, unmatched and records (in the topic). Raises AirflowFailException, naming the first orders
    that differ: trying again gives the same.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from millrace.operators.base import one_sentence

    with one_sentence(log), connection() as database:
        config = kafka.connection_config()
        load_topic(database, "orders", config, input_topic)
        load_topic(database, "actual_kafka", config, topic)
        reading.load(database, "actual_delta", storage.table_url(table))
        load_versions(database, storage.table_url(reference))
        problems = compare(database)
        result = rows(database, (SQL_FOLDER / "enriched_figures.sql").read_text())[0]
        excerpt = rows(database, f"SELECT * FROM actual_delta ORDER BY order_id LIMIT {SHOWN}")  # noqa: S608
    log.info("The first orders of %s:\n%s", table, reading.as_text(excerpt))
    if problems:
        log.error("%s", problems)
        raise AirflowFailException(problems)
    log.info("%(orders)d orders, %(matched)d matched and %(unmatched)d not: both sinks are right", result)
    return result


def load_topic(database: "duckdb.DuckDBPyConnection", name: str, config: Mapping[str, Any], topic: str) -> None:
    """Make the table `name` (record_key, record_value as JSON text, in the order of arrival) of a topic's records."""
    with tempfile.TemporaryDirectory(prefix="millrace-topic-") as folder:
        file = Path(folder) / "records.ndjson"
        with file.open("w") as lines:
            for number, record in enumerate(records.read_topic(config, topic)):
                key, value = record.key() or b"", record.value() or b""
                # Records of one key are in one partition, and so in their order.
                line = {"number": number, "key": key.decode(errors="replace"), "value": value.decode(errors="replace")}
                lines.write(json.dumps(line) + "\n")
        columns = "{number: 'BIGINT', key: 'VARCHAR', value: 'VARCHAR'}"
        source = f"read_json(?, format = 'newline_delimited', columns = {columns})"
        select = "SELECT number, key AS record_key, value AS record_value"
        database.execute(f"CREATE TABLE {name} AS {select} FROM {source}", [str(file)])


def load_versions(database: "duckdb.DuckDBPyConnection", reference_url: str) -> None:
    """Make the table `products` of every version that a row of `actual_delta` was joined with (reference_version)."""
    versions = [row["version"] for row in rows(database, (SQL_FOLDER / "enriched_versions.sql").read_text())]
    if not versions:
        raise MillraceError("There is no enriched order at all, so there is nothing to compare: see the stream's log.")
    for number, version in enumerate(versions):
        reading.load(database, "one_version", reference_url, version)
        select = f"SELECT {int(version)} AS reference_version, one_version.* FROM one_version"  # noqa: S608
        database.execute(f"INSERT INTO products {select}" if number else f"CREATE TABLE products AS {select}")
        database.execute("DROP TABLE one_version")


def compare(database: "duckdb.DuckDBPyConnection") -> str:
    """Say which orders differ, or return an empty string. Needs the tables that `verify_orders` makes."""
    database.execute((SQL_FOLDER / "enriched.sql").read_text())
    found = rows(database, f"SELECT * FROM differing ORDER BY ALL LIMIT {SHOWN}")  # noqa: S608
    if not found:
        return ""
    number = scalar(database, "SELECT count(*) FROM differing")
    named = "; ".join(f"order {row['order_id']} in {row['sink']} {row['problem']}" for row in found)
    return f"{number:,} orders differ: {named}."
