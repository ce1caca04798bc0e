"""Stands in for postgres_exporter: what our rules and dashboards use of its metrics, of a real PostgreSQL.

Names, labels and meanings are those of postgres_exporter 0.20.1, as tests/monitoring/exported/postgresql.yaml has them.
Left out: its other metrics and settings, /probe, and TLS.

    DATA_SOURCE_NAME="host=/var/run/postgresql user=exporter dbname=postgres" \
        python -m tests.cluster.standins.postgresql_exporter --web.listen-address=:9187
"""

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from tests.cluster.standins.metrics_page import Family, serve

TIMEOUT_SECONDS = 10

# Each database with each state, so that a state that nobody is in counts 0; but for the connection that asks.
ACTIVITY: LiteralString = """
    SELECT databases.datname, states.state, sessions.usename, sessions.application_name, sessions.backend_type,
           sessions.wait_event_type, sessions.wait_event, coalesce(sessions.number, 0) AS number,
           coalesce(sessions.duration, 0) AS duration
    FROM pg_database AS databases
    CROSS JOIN unnest(ARRAY['active', 'idle', 'idle in transaction', 'idle in transaction (aborted)',
                            'fastpath function call', 'disabled']) AS states (state)
    LEFT JOIN (
        SELECT datname, state, usename, application_name, backend_type, wait_event_type, wait_event,
               count(*) AS number, max(extract(epoch FROM now() - xact_start))::float AS duration
        FROM pg_stat_activity
        WHERE pid <> pg_backend_pid()
        GROUP BY 1, 2, 3, 4, 5, 6, 7
    ) AS sessions ON sessions.datname = databases.datname AND sessions.state = states.state
"""
ACTIVITY_LABELS = ("datname", "state", "usename", "application_name", "backend_type", "wait_event_type", "wait_event")
SIZES: LiteralString = "SELECT datname, pg_database_size(datname) AS size FROM pg_database"
# One row is of no database: what all share.
COUNTERS: LiteralString = """
    SELECT datid, datname, xact_commit, xact_rollback, deadlocks FROM pg_stat_database WHERE datname IS NOT NULL
"""
MAX_CONNECTIONS: LiteralString = "SELECT setting::float AS setting FROM pg_settings WHERE name = 'max_connections'"


def families(data_source: str) -> list[Family]:
    """Ask PostgreSQL; where it does not answer, all that is known is that it is down."""
    up = Family("pg_up", "gauge", "Whether the last scrape of metrics could connect to the server.")
    try:
        with psycopg.connect(data_source, connect_timeout=TIMEOUT_SECONDS, autocommit=True) as connection:
            found = [*_activity(connection), *_databases(connection)]
    except psycopg.Error as error:
        sys.stderr.write(f"PostgreSQL can't be asked: {error}\n")
        up.add(0)
        return [up]
    up.add(1)
    return [up, *found]


def _activity(connection: psycopg.Connection[Any]) -> Iterator[Family]:
    count = Family("pg_stat_activity_count", "gauge", "number of connections in this state")
    longest = Family(
        "pg_stat_activity_max_tx_duration", "gauge", "max duration in seconds any active transaction has been running"
    )
    for row in _rows(connection, ACTIVITY):
        labels = {name: row[name] or "" for name in ACTIVITY_LABELS}
        count.add(row["number"], **labels)
        longest.add(row["duration"], **labels)
    yield count
    yield longest
    limit = Family("pg_settings_max_connections", "gauge", "Server Parameter: max_connections")
    for row in _rows(connection, MAX_CONNECTIONS):
        limit.add(row["setting"])
    yield limit


def _databases(connection: psycopg.Connection[Any]) -> Iterator[Family]:
    size = Family("pg_database_size_bytes", "gauge", "Disk space used by the database")
    for row in _rows(connection, SIZES):
        size.add(row["size"], datname=row["datname"])
    yield size
    counters = {
        "xact_commit": "Number of transactions in this database that have been committed",
        "xact_rollback": "Number of transactions in this database that have been rolled back",
        "deadlocks": "Number of deadlocks detected in this database",
    }
    rows = _rows(connection, COUNTERS)
    for column, about in counters.items():
        family = Family(f"pg_stat_database_{column}", "counter", about)
        for row in rows:
            family.add(row[column], datid=str(row["datid"]), datname=row["datname"])
        yield family


def _rows(connection: psycopg.Connection[Any], query: LiteralString) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query).fetchall()


def port_of(address: str) -> int:
    """The port of an address as the real exporter takes it: `:9187`, on all addresses."""
    host, _, port = address.rpartition(":")
    if host or not port.isdigit():
        raise argparse.ArgumentTypeError(f"'{address}' is not of the form :9187")
    return int(port)


def main() -> int:
    """Serve; returns an exit status where it can't."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--web.listen-address", dest="port", type=port_of, default=":9187")
    port = parser.parse_args().port
    data_source = os.environ.get("DATA_SOURCE_NAME")
    if not data_source:
        sys.stderr.write("DATA_SOURCE_NAME is not set: say where PostgreSQL is.\n")
        return 2
    serve(port, lambda: families(data_source))
    return 0


if __name__ == "__main__":
    sys.exit(main())
