"""A ClickHouse table as a sink: each batch in effect once, by the deduplication tokens of its inserts.

Each piece of a batch (`http_sink` says what that is) is one insert, whose token names the query, the batch and the
piece. The server keeps the tokens of the newest inserts with the table, and passes over an insert whose token it holds.
So a batch that is run again, after a crash between its inserts and the checkpoint's commit, adds the pieces that were
missing and no other. A table that keeps no tokens is refused before anything is written.

Tokens are not kept for ever. A replicated table has them for `replicated_deduplication_window_seconds` (an hour, unless
set), any other for its newest `non_replicated_deduplication_window` inserts: longer than this an app must not lie dead
between an insert and its batch's commit, or that batch comes twice.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pyspark import TaskContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from streamkit.http_sink import DOCUMENT, Endpoint, SinkError, as_documents, endpoint, pieces
from streamkit.settings import ClickHouseSinkSettings

INSERT_SETTINGS = {
    "insert_deduplicate": "1",
    "async_insert": "0",  # each insert is a block of its own, and in the table when it is answered
    "wait_end_of_query": "1",  # the status tells how the whole insert ended
    "date_time_input_format": "best_effort",
    "input_format_null_as_default": "0",  # not all types heed it: `missing` finds the rest
    "input_format_skip_unknown_fields": "0",
}

TABLE = "SELECT engine, engine_full FROM system.tables WHERE database = {database:String} AND name = {table:String}"
COLUMNS = "SELECT name, type FROM system.columns WHERE database = {database:String} AND table = {table:String}"
DEFAULT = "SELECT value FROM system.merge_tree_settings WHERE name = {setting:String}"

TAKES_NULL = ("Nullable(", "LowCardinality(Nullable(", "Variant(", "Dynamic")
"""How the types of columns begin that can hold a null."""


@dataclass(frozen=True)
class Batch:
    """Which batch of which query; the same when the batch is run again."""

    query: str
    number: int


class ClickHouseSink:
    """Writes batches to one table."""

    def __init__(self, sink: ClickHouseSinkSettings) -> None:
        """Read what is needed to reach the server. Raises SettingsError."""
        self._sink = sink
        self._endpoint = endpoint("ClickHouse", sink)
        self._required: list[str] | None = None

    def write(self, rows: DataFrame, count: int, keys: list[str], batch: Batch) -> None:
        """Write one batch of `count` rows, which `keys` name. Raises SinkError, or what Spark makes of it in a task."""
        if self._required is None:
            self._check()
            self._required = self._columns_without_null()
        if not count:
            return
        if self._sink.version_column:
            rows = rows.withColumn(self._sink.version_column, F.lit(batch.number).cast("long"))
        parts, number = pieces(as_documents(rows), count, keys)
        send = partial(insert_piece, self._endpoint, self._sink, rows.columns, batch, number)
        required = [name for name in rows.columns if name in self._required]
        parts.select(DOCUMENT, missing(required)).foreachPartition(send)

    def _columns_without_null(self) -> list[str]:
        return [column["name"] for column in self._select(COLUMNS) if not column["type"].startswith(TAKES_NULL)]

    def _check(self) -> None:
        """Refuse a table that is not there, keeps no tokens, or keeps old rows beside the new that replace them."""
        name = f"{self._sink.database}.{self._sink.table}"
        table = self._select(TABLE)
        if not table:
            raise SinkError(f"ClickHouse at {self._sink.url} has no table {name}: create it first")
        engine, definition = table[0]["engine"], table[0]["engine_full"]
        if not engine.endswith("MergeTree"):
            raise SinkError(
                f"ClickHouse table {name} has the engine {engine}, which keeps no deduplication tokens: "
                "take one of the MergeTree family"
            )
        version = self._sink.version_column
        if version and not re.search(rf"ReplacingMergeTree\([^)]*\b{re.escape(version)}\b", definition):
            raise SinkError(
                f"ClickHouse table {name} does not replace rows by {version}: make it with the engine "
                f"ReplacingMergeTree({version}), or remove sinks.clickhouse.version_column"
            )
        kind = "replicated" if engine.startswith(("Replicated", "Shared")) else "non_replicated"
        setting = f"{kind}_deduplication_window"
        found = re.search(rf"\b{setting} = (\d+)", definition)
        if int(found[1] if found else self._select(DEFAULT, setting=setting)[0]["value"]) == 0:
            raise SinkError(
                f"ClickHouse table {name} keeps no deduplication tokens: "
                f"run ALTER TABLE {name} MODIFY SETTING {setting} = 1000"
            )

    def _select(self, query: str, **more: str) -> list[dict[str, Any]]:
        parameters = {"database": self._sink.database, "table": self._sink.table, **more}
        options = {f"param_{name}": value for name, value in parameters.items()} | {"default_format": "JSON"}
        answer = self._endpoint.request("POST", "", options, query)
        if answer.status != 200:
            raise self._endpoint.refusal(answer, "to say how the table is made")
        found: list[dict[str, Any]] = answer.json()["data"]
        return found


def missing(required: list[str]) -> Column:
    """Return the names of those of the columns that are null in a row, with commas, or an empty text."""
    return F.concat_ws(", ", *(F.when(F.col(name).isNull(), F.lit(name)) for name in required)).alias("missing")


def insert_piece(
    service: Endpoint,
    sink: ClickHouseSinkSettings,
    columns: list[str],
    batch: Batch,
    number: int,
    documents: Iterator[Any],
) -> None:
    """Insert one piece of a batch: documents, each with the names of columns that are null and must not be.

    Runs in a task, whose partition is the piece. Raises SinkError.
    """
    lines: list[str] = []
    for document, nulls in documents:
        if nulls:
            raise SinkError(
                f"a row of batch {batch.number} has no {nulls}, and {sink.database}.{sink.table} takes no null there, "
                f"which ClickHouse would make a zero: make the column Nullable, or fill it; the row is {document[:300]}"
            )
        lines.append(document)
    if not lines:
        return
    context: Any = TaskContext.get()
    token = f"{batch.query}/{batch.number}/{context.partitionId()}-of-{number}"
    names = ", ".join(map(_quoted, columns))
    parameters = {
        **sink.options,
        **INSERT_SETTINGS,
        "insert_deduplication_token": token,
        "query": f"INSERT INTO {_quoted(sink.database)}.{_quoted(sink.table)} ({names}) FORMAT JSONEachRow",
    }
    answer = service.request("POST", "", parameters, "\n".join(lines))
    if answer.status != 200 or "x-clickhouse-exception-code" in answer.headers:
        raise service.refusal(answer, f"batch {batch.number} for {sink.database}.{sink.table}")


def _quoted(name: str) -> str:
    """Write a name as ClickHouse takes any."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"
