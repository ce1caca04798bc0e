"""Read a query's checkpoint: which batch was planned last, and which was finished last.

    python -m streamkit.checkpoint inspect|check|state|rewind --help

is the command line that looks into checkpoints, judges them and takes them back: docs/recovery.md.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from pyspark.sql import SparkSession

BACKUP = ".backup-"
"""Stands between a query's folder and the time of its backup, in the backup's name."""
REWINDING = ".rewinding"
"""End of the file beside a query's folder that says that a rewind has begun and not finished."""

Listing = Callable[[str], Sequence[str]]
"""Names of the entries of a folder; empty if there is no such folder."""


@dataclass(frozen=True)
class CheckpointState:
    """The newest batch ids of a checkpoint; None where there is none yet."""

    path: str
    planned: int | None
    finished: int | None

    @property
    def exists(self) -> bool:
        """Whether a query has ever planned a batch here."""
        return self.planned is not None

    @property
    def clean(self) -> bool:
        """Whether the newest planned batch is finished, so that a restart repeats nothing."""
        return self.planned == self.finished


def newest(names: Iterable[str]) -> int | None:
    """Return the largest batch id of a log folder's file names; temporary files and checksums don't count."""
    return max((int(name) for name in names if name.isdecimal()), default=None)


def inspect(path: str, listing: Listing) -> CheckpointState:
    """Read one query's checkpoint."""
    return CheckpointState(path, newest(listing(f"{path}/offsets")), newest(listing(f"{path}/commits")))


def local_listing(path: str) -> list[str]:
    """List a folder of this machine."""
    folder = Path(path)
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def hadoop_listing(spark: SparkSession) -> Listing:
    """Return a function that lists folders by Spark's file systems, s3a among them."""
    files = HadoopFiles(spark)
    return files.list


class HadoopFiles:
    """The few file operations that a driver needs, on any file system that Spark can reach."""

    def __init__(self, spark: SparkSession) -> None:
        self._jvm: Any = spark.sparkContext._jvm
        # Kept, because finding a class by its name makes Java look through every jar for each part of the name.
        self._path: Any = self._jvm.org.apache.hadoop.fs.Path
        self._conf: Any = spark.sparkContext._jsc.hadoopConfiguration()

    def _at(self, path: str) -> tuple[Any, Any]:
        where = self._path(path)
        return where.getFileSystem(self._conf), where

    def exists(self, path: str) -> bool:
        """Return whether a file or folder is there."""
        system, where = self._at(path)
        return bool(system.exists(where))

    def read(self, path: str) -> str:
        """Return a text file's content (UTF-8)."""
        system, where = self._at(path)
        stream = system.open(where)
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def list(self, path: str) -> list[str]:
        """Return the names of a folder's entries; empty if there is no such folder."""
        system, where = self._at(path)
        if not system.exists(where):
            return []
        return [status.getPath().getName() for status in system.listStatus(where)]

    def create(self, path: str) -> None:
        """Make an empty file, with its folders, unless it is there."""
        system, where = self._at(path)
        if not system.exists(where):
            system.create(where).close()

    def delete(self, path: str) -> None:
        """Delete a file if it is there."""
        system, where = self._at(path)
        system.delete(where, False)


def local_path(path: str) -> str | None:
    """Return the local path of a plain path or a `file:` address, or None if it is on another file system."""
    parsed = urlparse(path)
    if parsed.scheme == "file":
        return unquote(parsed.path)
    return path if not parsed.scheme else None


def unfinished_rewinds(names: Iterable[str]) -> list[str]:
    """Return, of the names in an app's checkpoint folder, the queries that a rewind has left half done."""
    return sorted(name.removesuffix(REWINDING) for name in names if name.endswith(REWINDING))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (`streamkit.recovery`)."""
    from streamkit.recovery.cli import main as run  # noqa: PLC0415  (an app needs nothing of it)

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
