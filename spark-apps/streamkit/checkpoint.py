"""Read a query's checkpoint: which batch was planned last, and which was finished last.

    python -m streamkit.checkpoint inspect PATH

PATH is one query's checkpoint or a folder of several. The exit status is 0 if all are clean, 1 if one is not,
2 if there is none.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from pyspark.sql import SparkSession

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m streamkit.checkpoint", description="Look into checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("inspect", help="say whether the newest planned batch is finished")
    command.add_argument(
        "path", help="a query's checkpoint, or a folder of several (local, file: or any Hadoop address)"
    )
    path = parser.parse_args(argv).path.rstrip("/")
    local = local_path(path)
    if local is not None:
        path = local
        listing: Listing = local_listing
    else:
        listing = hadoop_listing(SparkSession.builder.master("local[1]").getOrCreate())
    names = listing(path)
    paths = [path] if "offsets" in names else [f"{path}/{name}" for name in sorted(names)]
    states = [state for state in (inspect(each, listing) for each in paths) if state.exists]
    if not states:
        sys.stderr.write(f"{path}: holds no checkpoint: expected folders offsets and commits\n")
        return 2
    for state in states:
        sys.stdout.write(json.dumps({**asdict(state), "clean": state.clean}) + "\n")
    return 0 if all(state.clean for state in states) else 1


if __name__ == "__main__":
    sys.exit(main())
