"""Delta tables of the platform, by name: read lazily, replaced by range, appended to.

A table is at `tables/<name>` below MILLRACE_STORAGE (a folder or S3). Without a JVM: deltalake writes, Polars reads,
and both see exactly one version of the table, whatever is written meanwhile. Rows are Polars frames, or anything else
that hands out Arrow data (`__arrow_c_stream__`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from millrace.errors import MillraceError
from millrace.storage import delta_options, table_url

if TYPE_CHECKING:
    import polars as pl
    from deltalake import DeltaTable


def open_table(name: str) -> "DeltaTable":
    """Return the newest version of a table. Raises MillraceError if there is none or the storage refuses."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    address = table_url(name)
    try:
        with _one_sentence("read", address):
            return DeltaTable(address, storage_options=delta_options(address))
    except TableNotFoundError:
        raise MillraceError(f"There is no Delta table at {address}: run the DAG that writes it first.") from None


def exists(name: str) -> bool:
    """True if there is such a table. Raises MillraceError if the storage refuses."""
    from deltalake import DeltaTable

    address = table_url(name)
    with _one_sentence("read", address):
        return DeltaTable.is_deltatable(address, storage_options=delta_options(address))


def scan(name: str) -> "pl.LazyFrame":
    """Return a table as a lazy frame: only the columns, files and row groups that a query needs are read.

    Raises MillraceError if there is no such table.
    """
    import polars as pl

    return pl.scan_delta(open_table(name))


def read(name: str, columns: Sequence[str] | None = None, predicate: "pl.Expr | None" = None) -> "pl.DataFrame":
    """Return the rows of a table for which `predicate` holds (all without one), with these columns (all without).

    Raises MillraceError if there is no such table or column, or the storage refuses.
    """
    import polars as pl

    frame = scan(name)
    if predicate is not None:
        frame = frame.filter(predicate)
    if columns is not None:
        frame = frame.select(columns)
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise MillraceError(f"Cannot read the Delta table {table_url(name)} ({_first_line(error)}).") from error


def replace(name: str, rows: Any, predicate: str, partition_by: Sequence[str] = ()) -> None:
    """Put `rows` in the place of all rows for which `predicate` (SQL) holds, in one commit; makes a missing table.

    Written twice, the table is the same as written once: this is what makes a load and its backfill idempotent.
    `partition_by` counts only when the table is made. Raises MillraceError if a row lies outside of `predicate`, rows
    don't fit the table's columns, another writer was faster, or the storage refuses.
    """
    _write(name, rows, mode="overwrite", predicate=predicate, partition_by=list(partition_by) or None)


def append(name: str, rows: Any, partition_by: Sequence[str] = ()) -> None:
    """Add rows to a table, in one commit; makes a missing one. A retry adds them again: prefer `replace`.

    Raises MillraceError if rows don't fit the table's columns, or the storage refuses.
    """
    _write(name, rows, mode="append", partition_by=list(partition_by) or None)


def maintain(name: str, keep: timedelta = timedelta(days=7), partitions: Sequence[tuple[str, str, Any]] = ()) -> int:
    """Join small files into larger ones, and delete files that no version younger than `keep` needs; return how many.

    `partitions` such as `[("day", ">=", "2026-01-01")]` bounds the joining. Raises MillraceError as `replace` does.
    """
    table = open_table(name)
    with _one_sentence("maintain", table_url(name)):
        table.optimize.compact(partition_filters=list(partitions) or None)
        hours = int(keep / timedelta(hours=1))
        return len(table.vacuum(retention_hours=hours, enforce_retention_duration=False, dry_run=False))


def _write(name: str, rows: Any, **how: Any) -> None:
    from deltalake import write_deltalake

    address = table_url(name)
    with _one_sentence("write", address):
        write_deltalake(address, rows, storage_options=delta_options(address), **how)


@contextmanager
def _one_sentence(verb: str, address: str) -> Iterator[None]:
    from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

    try:
        yield
    except TableNotFoundError:
        raise
    except CommitFailedError as error:
        reason = f"another writer was faster ({_first_line(error)}): run the task again"
        raise MillraceError(f"Cannot {verb} the Delta table {address}: {reason}.") from error
    except (DeltaError, OSError, ValueError) as error:
        reason = f"{_first_line(error)}; check its columns, and the rights and space of that storage"
        raise MillraceError(f"Cannot {verb} the Delta table {address}: {reason}.") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".:") if str(error).strip() else type(error).__name__
