"""Delta tables at one version into DuckDB, for checks by SQL; rows as text for a task's log."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from millrace.errors import MillraceError
from millrace.storage import delta_options

if TYPE_CHECKING:
    import duckdb


def newest_version(table_url: str) -> int:
    """Return the newest version of a Delta table. Raises MillraceError if it can't be read."""
    return _open(table_url, None).version()


def load(database: "duckdb.DuckDBPyConnection", name: str, table_url: str, version: int | None = None) -> None:
    """Make the DuckDB table `name` of all rows of a Delta table, of its newest version or the given one.

    Raises MillraceError if the table can't be read.
    """
    from deltalake import QueryBuilder
    from deltalake.exceptions import DeltaError

    source = _open(table_url, version)
    try:
        reader = QueryBuilder().register("source", source).execute("SELECT * FROM source")
        database.register("delta_reader", reader)
        database.execute(f"CREATE TABLE {name} AS SELECT * FROM delta_reader")  # noqa: S608 - our own names
        database.unregister("delta_reader")
    except (DeltaError, OSError, ValueError) as error:
        raise _unreadable(table_url, error) from error


def _open(table_url: str, version: int | None) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return DeltaTable(table_url, version=version, storage_options=delta_options(table_url))
    except (DeltaError, OSError, ValueError) as error:
        raise _unreadable(table_url, error) from error


def _unreadable(table_url: str, error: Exception) -> MillraceError:
    detail = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return MillraceError(
        f"Cannot read the Delta table {table_url} ({detail}): see the log of the driver that makes it."
    )


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a table of aligned columns; numbers to the right. Columns are those of the first row."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    numeric = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    lines = ["  ".join(map(_padded, line, widths, numeric)) for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _padded(text: str, width: int, number: bool) -> str:
    return text.rjust(width) if number else text.ljust(width)
