"""Resolve, verify and keep the jars of Kafka and Spark, as requirements/jars.lock pins them."""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import UserError
from embedded.ivy import Coordinate, retrieve
from embedded.java import Java
from embedded.paths import REPOSITORY
from embedded.versions import versions

LOCK = REPOSITORY / "requirements" / "jars.lock"
INPUT = REPOSITORY / "requirements" / "jars.in"
RUNTIME_SETS = ("kafka", "spark")
# s3 is for the Spark image; strimzi and metrics are for tests of the chart only, opensearch for those of its sink.
SETS = (*RUNTIME_SETS, "s3", "strimzi", "metrics", "opensearch")

INCOMPLETE = "incomplete-"
"""Begin of the names of what is being made in the jars' directory."""
HEADER = """\
# Written by `python -m embedded jars lock` from requirements/jars.in and versions.yaml. Do not edit.
# <set> <group>:<artifact>:<version> sha256=<of the jar>
"""


@dataclass(frozen=True, order=True)
class LockedJar:
    """One line of the lock."""

    set_name: str
    coordinate: Coordinate
    sha256: str


@dataclass(frozen=True)
class JarSet:
    """What jars.in asks for under one name: jars taken with and without their dependencies, and exclusions."""

    alone: tuple[Coordinate, ...]
    transitive: tuple[Coordinate, ...]
    exclude: tuple[str, ...]


def read_lock(path: Path = LOCK) -> list[LockedJar]:
    """Read the lock.

    Raises:
        UserError: the file is missing or a line can't be read.
    """
    jars = []
    for number, line in _lines(path):
        match = re.fullmatch(r"(\w+)\s+(\S+)\s+sha256=([0-9a-f]{64})", line)
        try:
            if match is None or match.group(1) not in SETS:
                raise ValueError
            jars.append(LockedJar(match.group(1), Coordinate.parse(match.group(2)), match.group(3)))
        except ValueError:
            raise UserError(
                f"{path}, line {number}: expected `<{'|'.join(SETS)}> group:artifact:version sha256=<64 hex digits>`; "
                "restore the file with `git checkout requirements/jars.lock`."
            ) from None
    return jars


def fetch(java: Java, directory: Path, lock: Path = LOCK, names: Sequence[str] = RUNTIME_SETS) -> dict[str, Path]:
    """Make sure that ``directory/<set>`` holds exactly the locked jars, and return these directories by set.

    Each jar's checksum is verified every time. What is missing is downloaded to a temporary directory, verified there
    and moved in as one step per set, so an interruption leaves either nothing or the whole set. Safe to run at the
    same time from several processes.

    Raises:
        UserError: a jar differs from the lock, or can't be downloaded.
    """
    locked = read_lock(lock)
    with exclusive(directory, ".lock"):
        wanted = {name: [jar for jar in locked if jar.set_name == name] for name in names}
        incomplete = {name: jars for name, jars in wanted.items() if not _complete(directory / name, jars)}
        if incomplete:
            _download(java, directory, incomplete)
    return {name: directory / name for name in names}


def write_lock(java: Java, source: Path = INPUT, lock: Path = LOCK) -> list[LockedJar]:
    """Resolve jars.in anew and write the lock with the checksums of what was downloaded.

    Raises:
        UserError: jars.in can't be read, or a jar can't be resolved.
    """
    jars = []
    with tempfile.TemporaryDirectory(prefix="millrace-jars-") as temporary:
        for name, wanted in read_input(source).items():
            found: dict[Coordinate, Path] = {}
            for transitive, coordinates in ((False, wanted.alone), (True, wanted.transitive)):
                if coordinates:
                    place = Path(temporary) / f"{name}-{transitive}"
                    found |= retrieve(java, coordinates, place, transitive=transitive, exclude=wanted.exclude)
            jars += [LockedJar(name, coordinate, sha256(path)) for coordinate, path in found.items()]
    lines = [f"{jar.set_name} {jar.coordinate} sha256={jar.sha256}\n" for jar in sorted(jars)]
    lock.write_text(HEADER + "".join(lines))
    return sorted(jars)


def read_input(path: Path = INPUT) -> dict[str, JarSet]:
    """Read jars.in, with versions filled in from versions.yaml.

    Raises:
        UserError: a line can't be read.
    """
    parts: dict[str, dict[str, list[str]]] = {name: {"jar": [], "tree": [], "exclude": []} for name in SETS}
    for number, line in _lines(path):
        words = line.split()
        try:
            name, kind, value = words
            parts[name][kind].append(re.sub(r"\{([\w-]+)\.([\w-]+)\}", lambda m: str(versions()[m[1]][m[2]]), value))
        except (KeyError, ValueError):
            raise UserError(
                f"{path}, line {number}: expected `<{'|'.join(SETS)}> <jar|tree|exclude> <coordinate>` with only "
                "versions that versions.yaml has."
            ) from None
    return {
        name: JarSet(
            tuple(map(Coordinate.parse, kinds["jar"])),
            tuple(map(Coordinate.parse, kinds["tree"])),
            tuple(kinds["exclude"]),
        )
        for name, kinds in parts.items()
    }


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"{path} can't be read ({error.strerror}): restore it with `git checkout {path}`.") from None
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.partition("#")[0].strip()
        if stripped:
            yield number, stripped


def _complete(directory: Path, jars: list[LockedJar]) -> bool:
    """Whether the directory holds exactly these jars; False if some are missing or there are others.

    Raises:
        UserError: one is there and differs from the lock.
    """
    for jar in jars:
        path = directory / jar.coordinate.file_name
        if path.exists():
            _verify(path, jar, f"delete {path} and run the command again to download it anew")
    present = {path.name for path in directory.glob("*.jar")}
    return present == {jar.coordinate.file_name for jar in jars}


def _verify(path: Path, jar: LockedJar, remedy: str) -> None:
    found = sha256(path)
    if found != jar.sha256:
        raise UserError(
            f"{jar.coordinate} ({path.name}) is not the jar that requirements/jars.lock pins: expected SHA-256 "
            f"{jar.sha256}, got {found}; {remedy}."
        )


def _download(java: Java, directory: Path, wanted: dict[str, list[LockedJar]]) -> None:
    with tempfile.TemporaryDirectory(prefix=f"{INCOMPLETE}jars-", dir=directory) as temporary:
        for name, jars in wanted.items():
            staging = Path(temporary) / name
            found = retrieve(java, [jar.coordinate for jar in jars], staging / "ivy", transitive=False)
            for jar in jars:
                if jar.coordinate not in found:
                    raise UserError(f"{jar.coordinate} could not be downloaded: run the command again.")
                remedy = (
                    "do not use it: if its pin in versions.yaml changed on purpose, run `python -m embedded jars lock`"
                    " and review the difference, else check the Maven repository in use"
                )
                _verify(found[jar.coordinate], jar, remedy)
                found[jar.coordinate].rename(staging / jar.coordinate.file_name)
            shutil.rmtree(staging / "ivy")
            destination = directory / name
            if destination.exists():
                destination.rename(Path(temporary) / f"{name}-old")
            staging.rename(destination)


@contextmanager
def exclusive(directory: Path, lock: str, leftovers: str = f"{INCOMPLETE}jars-*") -> Iterator[None]:
    """Hold a lock in the jars' directory for this process alone; a second process waits.

    Args:
        directory: made if it isn't there.
        lock: name of the file that is locked.
        leftovers: which files of a process that was killed while it held this lock are removed.

    Raises:
        UserError: the directory can't be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / lock, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise UserError(
            f"{directory} can't be written ({error.strerror}): set MILLRACE_HOME to a directory that can."
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A process that was killed while it downloaded leaves its directory; nobody else is at it now.
        for leftover in directory.glob(leftovers):
            shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
