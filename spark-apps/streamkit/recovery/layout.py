"""What a query's checkpoint holds: batches with their offsets, commits, and the versions of its state.

Spark plans batch N by writing `offsets/N` (where each source is read up to), and finishes it by `commits/N`. State that
batch N read has version N, and what it wrote has version N + 1.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from streamkit.checkpoint import BACKUP
from streamkit.recovery import NothingThereError, RecoveryError
from streamkit.recovery.files import File, Files

Positions = dict[str, dict[int, int]]
"""Topic to partition to offset: that of the next record to read."""

_STATE_FILE = re.compile(r"state/(\d+)/(\d+)/(?:([^/_][^/]*)/)?(\d+)(?:_[^./]+)?\.(zip|snapshot|changelog|delta)")
_WHOLE = ("zip", "snapshot")


class DamagedError(RecoveryError):
    """A file of a checkpoint cannot be what Spark wrote."""


@dataclass(frozen=True)
class Offsets:
    """One file of the folder `offsets`."""

    batch: int
    watermark_ms: int
    planned_ms: int
    """When the batch was planned, milliseconds since 1970."""
    conf: Mapping[str, str]
    sources: tuple[Any, ...]
    """Of each source the JSON of its position; None where it had none yet."""

    @property
    def positions(self) -> Positions:
        """The positions of Kafka sources, all together."""
        found: Positions = {}
        for source in self.sources:
            for topic, partitions in kafka_positions(source).items():
                found.setdefault(topic, {}).update(partitions)
        return found


def kafka_positions(source: Any) -> Positions:
    """Return a source's position if it is one of Kafka, else nothing."""
    if not isinstance(source, dict) or not all(isinstance(value, dict) for value in source.values()):
        return {}
    try:
        return {topic: {int(p): int(offset) for p, offset in each.items()} for topic, each in source.items()}
    except (TypeError, ValueError):
        return {}


@dataclass
class Store:
    """The state of one operator in one partition."""

    operator: int
    partition: int
    name: str
    """Which of the operator's stores; `default` where it has one."""
    whole: set[int] = field(default_factory=set)
    """Versions that are there as a whole."""
    changes: set[int] = field(default_factory=set)
    """Versions that are there as changes to the one before."""
    size: int = 0
    modified: float = 0.0

    @property
    def place(self) -> str:
        """The folder of the store, below the checkpoint."""
        own = "" if self.name == "default" else f"/{self.name}"
        return f"state/{self.operator}/{self.partition}{own}"

    def base(self, version: int) -> int:
        """Return the whole version (0: nothing) that a version is computed from. Raises DamagedError if it can't be."""
        at = version
        while at > 0 and at not in self.whole:
            if at not in self.changes:
                raise DamagedError(f"{self.place} lacks version {at}, which state of version {version} is made from")
            at -= 1
        return at


@dataclass(frozen=True)
class Checkpoint:
    """One query's checkpoint, as one listing of its files found it."""

    path: str
    files: Mapping[str, File]

    @property
    def query(self) -> str:
        """The name of its folder, which is the query's."""
        return self.path.rpartition("/")[2]

    @cached_property
    def planned(self) -> list[int]:
        """Ids of the batches that have offsets."""
        return self._ids("offsets")

    @cached_property
    def finished(self) -> list[int]:
        """Ids of the batches that are committed."""
        return self._ids("commits")

    def _ids(self, folder: str) -> list[int]:
        names = (path.partition("/") for path in self.files)
        return sorted(int(name) for parent, _, name in names if parent == folder and name.isdecimal())

    @cached_property
    def stores(self) -> list[Store]:
        """All state, by operator, name and partition."""
        found: dict[tuple[int, str, int], Store] = {}
        for path, file in self.files.items():
            if not (match := _STATE_FILE.fullmatch(path)):
                continue
            operator, partition, name, version = int(match[1]), int(match[2]), match[3] or "default", int(match[4])
            store = found.setdefault((operator, name, partition), Store(operator, partition, name))
            (store.whole if match[5] in _WHOLE else store.changes).add(version)
            store.size += file.size
            store.modified = max(store.modified, file.modified)
        return [found[key] for key in sorted(found)]

    @property
    def stateful(self) -> bool:
        """Whether the query keeps state."""
        return any(path.startswith("state/") for path in self.files)

    def state_after(self, batch: int) -> list[str]:
        """Return the state files that batches after this one wrote."""
        found = ((path, _STATE_FILE.fullmatch(path)) for path in self.files)
        return [path for path, match in found if match and int(match[4]) > batch + 1]


def read_checkpoint(files: Files, path: str) -> Checkpoint:
    """List one query's checkpoint."""
    return Checkpoint(path, {file.path: file for file in files.walk(path)})


def queries(files: Files, path: str) -> list[str]:
    """Return the checkpoints at a path: of itself, or of an app's folder those of its queries.

    Raises NothingThereError if there is none.
    """
    names = files.folders(path)
    own = {"offsets", "commits"}
    found = [path] if own & set(names) else [f"{path}/{name}" for name in names if BACKUP not in name]
    found = [each for each in found if own & set(files.folders(each))]
    if not found:
        raise NothingThereError(
            f"{path}: holds no checkpoint: expected folders offsets and commits, there or one below"
        )
    return found


def backups(files: Files, path: str) -> list[str]:
    """Return the backups of a query's checkpoint, oldest first."""
    parent, _, name = path.rpartition("/")
    return [f"{parent}/{other}" for other in files.folders(parent) if other.startswith(f"{name}{BACKUP}")]


def read_offsets(files: Files, checkpoint: Checkpoint, batch: int) -> Offsets:
    """Read where a batch was planned to end. Raises DamagedError."""
    name = f"offsets/{batch}"
    about, *sources = _lines(files, checkpoint, name)
    try:
        document = json.loads(about)
        positions = tuple(None if line == "-" else json.loads(line) for line in sources)
        if not positions:
            raise ValueError("it names no source")
        conf = document.get("conf", {})
        return Offsets(batch, document["batchWatermarkMs"], document["batchTimestampMs"], conf, positions)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(name, error) from error


def read_commit(files: Files, checkpoint: Checkpoint, batch: int) -> None:
    """Look whether a batch's commit can be read. Raises DamagedError."""
    name = f"commits/{batch}"
    for line in _lines(files, checkpoint, name):
        try:
            json.loads(line)
        except ValueError as error:
            raise _damaged(name, error) from error


def read_query_id(files: Files, checkpoint: Checkpoint) -> str:
    """Return the query's id, by which sinks know its batches. Raises DamagedError."""
    content = files.read(f"{checkpoint.path}/metadata")
    if content is None:
        raise DamagedError(
            "metadata is missing, which holds the query's id: sinks would take every batch for a new one"
        )
    try:
        return str(json.loads(content)["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged("metadata", error) from error


def _lines(files: Files, checkpoint: Checkpoint, name: str) -> list[str]:
    """Return the lines of a log's file, without the version that it begins with."""
    content = files.read(f"{checkpoint.path}/{name}")
    if content is None:
        raise DamagedError(f"{name} is gone: it was deleted while the checkpoint was read")
    version, *lines = content.decode(errors="replace").strip().split("\n")
    if not re.fullmatch(r"v\d+", version) or not lines:
        raise DamagedError(
            f"{name} is cut short ({len(content)} bytes): it holds no {'version' if lines else 'content'}"
        )
    return lines


def _damaged(name: str, error: Exception) -> DamagedError:
    return DamagedError(f"{name} is damaged ({' '.join(str(error).split()) or type(error).__name__})")
