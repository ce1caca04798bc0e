"""The columns of a table that holds a topic's messages: those of its contract, and where each record stood."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson
from arro3.core import Array, DataType, Field, Schema, Table

from ingest.contracts import Contract

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_ONE = date(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
DATE_COLUMN = "event_date"
INSTANT = DataType.timestamp("us", tz="UTC")
Row = tuple[Any, ...]
"""A record's values as stored, one for each column."""


@dataclass(frozen=True)
class Column:
    """One column: how a field's value becomes what Arrow stores, and of which type that is first and in the end."""

    name: str
    type: DataType
    stored: DataType
    value: Callable[[Any], Any]

    def array(self, values: Sequence[Any]) -> Array:
        """Return stored values as the column."""
        array = Array(values, self.stored)
        return array if self.stored == self.type else array.cast(self.type)


def microseconds(moment: str | datetime) -> int:
    """Return an instant, as text in ISO 8601 or as a datetime, in microseconds since 1970."""
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    return (parsed - EPOCH) // MICROSECOND


def _int64(value: Any) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} is too large for a column of whole numbers")
    return int(value)


def _days(day: date) -> int:
    return (day - DAY_ONE).days


def _text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _plain(name: str, type_: DataType, value: Callable[[Any], Any]) -> Column:
    return Column(name, type_, type_, value)


def columns_of(contract: Contract) -> list[Column]:
    """Return the columns for a contract's messages.

    Instants are timestamps; what is neither a number, a truth value nor text is kept as JSON. Added are the record's
    partition, offset and time in Kafka, and the event's date in UTC, by which the table is partitioned.
    """
    return [
        *(_column(name, schema) for name, schema in contract.schema["properties"].items()),
        _plain("kafka_partition", DataType.int32(), int),
        _plain("kafka_offset", DataType.int64(), _int64),
        Column("kafka_time", INSTANT, DataType.int64(), microseconds),
        Column(DATE_COLUMN, DataType.date32(), DataType.int32(), _days),
    ]


def _column(name: str, schema: Mapping[str, Any]) -> Column:
    given = schema.get("type", [])
    types = set([given] if isinstance(given, str) else given) - {"null"}
    for value in (*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])):
        if value is not None:
            types.add({bool: "boolean", int: "integer", float: "number", str: "string"}.get(type(value), "object"))
    if types == {"string"} and schema.get("format") == "date-time":
        return Column(name, INSTANT, DataType.int64(), microseconds)
    if types == {"integer"}:
        return _plain(name, DataType.int64(), _int64)
    if types and types <= {"integer", "number"}:
        return _plain(name, DataType.float64(), float)
    if types == {"boolean"}:
        return _plain(name, DataType.bool(), bool)
    return _plain(name, DataType.utf8(), _text)


def arrow_schema(columns: Sequence[Column]) -> Schema:
    """Return the columns as an Arrow schema; every one may be null, as a later version may add others."""
    return Schema([Field(column.name, column.type, nullable=True) for column in columns])


def stored(columns: Sequence[Column], message: Mapping[str, Any]) -> Row:
    """Return a message as a row of the columns; raises ValueError if a value can't be stored in its column."""
    values = ((column, message.get(column.name)) for column in columns)
    return tuple(None if value is None else column.value(value) for column, value in values)


def arrow_table(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """Return rows as an Arrow table."""
    by_column = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    arrays = [column.array(values) for column, values in zip(columns, by_column, strict=True)]
    return Table.from_arrays(arrays, schema=arrow_schema(columns))
