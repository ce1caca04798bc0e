"""What one task hands to the next where it is more than a few words: files on the storage; only their place travels by
XCom.

They are at `staging/<dag id>/<run>/`: a retry writes the same file again, and the run's last task removes all.
"""

import io
from typing import TYPE_CHECKING, Any

from millrace import storage
from millrace.errors import MillraceError

if TYPE_CHECKING:
    import duckdb
    import polars as pl

FOLDER = "staging"


def write(rows: Any, dag_id: str, run_id: str, name: str) -> str:
    """Write a Polars frame or a DuckDB relation; return its place. Raises MillraceError if the storage refuses."""
    import polars as pl

    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return write_file(buffer.getvalue(), dag_id, run_id, f"{name}.parquet")


def write_file(content: bytes, dag_id: str, run_id: str, name: str) -> str:
    """Write a file; return its place. Raises MillraceError if the storage refuses."""
    place = f"{FOLDER}/{dag_id}/{storage.run_folder(run_id)}/{name}"
    storage.write_bytes(content, place)
    return place


def read(place: str) -> "pl.DataFrame":
    """Return the table at a place that `write` gave. Raises MillraceError if it isn't there or can't be read."""
    import polars as pl

    try:
        return pl.read_parquet(io.BytesIO(storage.read_bytes(place)))
    except pl.exceptions.PolarsError as error:
        raise MillraceError(f"Cannot read {place} ({error}): clear the task that writes it.") from error


def load(database: "duckdb.DuckDBPyConnection", place: str, name: str) -> None:
    """Make the staged table at `place` a view of a DuckDB database."""
    register(database, name, read(place))


def register(database: "duckdb.DuckDBPyConnection", name: str, frame: "pl.DataFrame") -> None:
    """Make a Polars frame a view of a DuckDB database."""
    from arro3.core import Table

    # DuckDB would ask pyarrow to read a Polars frame; what arro3 hands out it reads by itself.
    database.register(name, Table.from_arrow(frame))


def clear(dag_id: str, run_id: str) -> bool:
    """Delete all that a run has staged; return whether there was anything."""
    return storage.delete_tree(FOLDER, dag_id, storage.run_folder(run_id))
