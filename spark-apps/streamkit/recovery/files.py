"""The file operations of recovery, on this machine's disk and on every file system that Spark can reach.

A checkpoint on a disk has a hidden checksum file (`.name.crc`) beside each file, which Hadoop compares when it reads.
So a file that is replaced or deleted here loses its checksum with it.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from py4j.protocol import Py4JJavaError

from streamkit.checkpoint import HadoopFiles
from streamkit.errors import first_line
from streamkit.recovery import RecoveryError


@dataclass(frozen=True)
class File:
    """A file of a tree."""

    path: str
    """Relative to the tree's root, with `/`."""
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970."""


class Files(Protocol):
    """What recovery asks of a file system. Every method raises RecoveryError where the storage refuses."""

    def folders(self, path: str) -> list[str]:
        """Return the names of a folder's folders, sorted; empty if there is no such folder."""
        ...

    def walk(self, path: str) -> list[File]:
        """Return every file below a folder, without checksums, by path; empty if there is no such folder."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return what a file holds, or None if there is no such file."""
        ...

    def write(self, path: str, content: bytes) -> None:
        """Make or replace a file: a reader sees the old one or the new one, never a part."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy a folder and all that is in it; what the target already holds is replaced."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files, in the order given; one that is not there is no error."""
        ...


def is_checksum(name: str) -> bool:
    """Return whether a file name is that of a checksum."""
    return name.startswith(".") and name.endswith(".crc")


class LocalFiles:
    """Files of this machine, by Python alone: no JVM has to start."""

    def folders(self, path: str) -> list[str]:
        """See `Files`."""
        folder = Path(path)
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []

    def walk(self, path: str) -> list[File]:
        """See `Files`."""
        found = []
        for folder, subfolders, names in os.walk(path):
            subfolders.sort()
            for name in sorted(names):
                place = Path(folder, name)
                try:
                    about = place.stat()
                except FileNotFoundError:
                    continue  # a running query has just cleaned up
                if not is_checksum(name):
                    found.append(File(place.relative_to(path).as_posix(), about.st_size, about.st_mtime))
        return sorted(found, key=lambda file: file.path)

    def read(self, path: str) -> bytes | None:
        """See `Files`."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused(path, "read", error) from error

    def write(self, path: str, content: bytes) -> None:
        """See `Files`."""
        place = Path(path)
        partial = place.with_name(f".{place.name}.{os.getpid()}.tmp")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            _checksum(place).unlink(missing_ok=True)
            partial.replace(place)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _refused(path, "written", error) from error

    def copy(self, source: str, target: str) -> None:
        """See `Files`."""
        try:
            shutil.copytree(source, target, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise _refused(target, "written", error) from error

    def delete(self, paths: Iterable[str]) -> None:
        """See `Files`."""
        for path in paths:
            try:
                Path(path).unlink(missing_ok=True)
                _checksum(Path(path)).unlink(missing_ok=True)
            except OSError as error:
                raise _refused(path, "deleted", error) from error


class StoredFiles(HadoopFiles):
    """Files by Hadoop's file systems, s3a among them."""

    def folders(self, path: str) -> list[str]:
        """See `Files`."""
        return sorted(self._asked(path, "listed", lambda: self._folders(path)))

    def _folders(self, path: str) -> list[str]:
        system, where = self._at(path)
        if not system.exists(where):
            return []
        return [entry.getPath().getName() for entry in system.listStatus(where) if entry.isDirectory()]

    def walk(self, path: str) -> list[File]:
        """See `Files`. On S3 this is one listing, whatever the number of folders."""
        return sorted(self._asked(path, "listed", lambda: self._walk(path)), key=lambda file: file.path)

    def _walk(self, path: str) -> list[File]:
        system, where = self._at(path)
        if not system.exists(where):
            return []
        # The file system's own form of the address, in which it names what it lists.
        root = system.makeQualified(where).toString().rstrip("/")
        found, entries = [], system.listFiles(where, True)
        while entries.hasNext():
            entry = entries.next()
            name = entry.getPath().toString().removeprefix(root).lstrip("/")
            if not is_checksum(name.rpartition("/")[2]):
                found.append(File(name, entry.getLen(), entry.getModificationTime() / 1000))
        return found

    def read(self, path: str) -> bytes | None:  # type: ignore[override]
        """See `Files`."""
        return self._asked(path, "read", lambda: self._bytes(path))

    def _bytes(self, path: str) -> bytes | None:
        system, where = self._at(path)
        if not system.exists(where):
            return None
        stream = system.open(where)
        try:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()

    def write(self, path: str, content: bytes) -> None:
        """See `Files`. On S3 an object appears when its upload is complete."""
        self._asked(path, "written", lambda: self._write(path, content))

    def _write(self, path: str, content: bytes) -> None:
        system, where = self._at(path)
        stream = system.create(where, True)
        try:
            stream.write(content)
        finally:
            stream.close()

    def copy(self, source: str, target: str) -> None:
        """See `Files`."""
        for file in self.walk(source):
            self._asked(
                target, "written", lambda file=file: self._copy(f"{source}/{file.path}", f"{target}/{file.path}")
            )

    def _copy(self, source: str, target: str) -> None:
        (system, old), (other, new) = self._at(source), self._at(target)
        self._jvm.org.apache.hadoop.fs.FileUtil.copy(system, old, other, new, False, True, self._conf)

    def delete(self, paths: Iterable[str]) -> None:
        """See `Files`."""
        for path in paths:
            self._asked(path, "deleted", lambda path=path: self._delete(path))

    def _delete(self, path: str) -> None:
        system, where = self._at(path)
        system.delete(where, False)

    @staticmethod
    def _asked(path: str, done: str, ask: Any) -> Any:
        try:
            return ask()
        except Py4JJavaError as error:
            raise _refused(path, done, error) from error


def _checksum(path: Path) -> Path:
    return path.with_name(f".{path.name}.crc")


def _refused(path: str, done: str, error: Exception) -> RecoveryError:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else first_line(error)
    return RecoveryError(f"{path} cannot be {done} ({reason}): check the address, its rights and its space")
