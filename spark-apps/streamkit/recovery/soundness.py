"""Whether a checkpoint is sound: a query that starts from it goes on where it ended. One sentence for each finding."""

import io
import json
import zipfile
from collections import Counter
from dataclasses import dataclass
from typing import Any

from streamkit.checkpoint import REWINDING
from streamkit.recovery.broker import Broker, misplaced
from streamkit.recovery.files import Files
from streamkit.recovery.layout import (
    Checkpoint,
    DamagedError,
    Store,
    read_commit,
    read_offsets,
    read_query_id,
)
from streamkit.recovery.table import newest_batch


@dataclass(frozen=True)
class Finding:
    """Something that is not as a query needs it."""

    query: str
    text: str


def check(
    files: Files, checkpoint: Checkpoint, broker: Broker | None = None, table: str | None = None
) -> list[Finding]:
    """Return what is wrong with a query's checkpoint; empty if it is sound.

    With a broker the offsets are compared with what the topics hold, with a Delta table its newest batch of this query
    with the checkpoint's. Raises RecoveryError if the storage or the broker does not answer.
    """
    texts = [*_unfinished_rewind(files, checkpoint), *_batches(checkpoint), *_content(files, checkpoint)]
    last = checkpoint.finished[-1] if checkpoint.finished else None
    if last is not None:
        texts += state_problems(files, checkpoint, last)
        if broker:
            texts += _offsets(files, checkpoint, last, broker)
    if table:
        texts += _table(files, checkpoint, table)
    return [Finding(checkpoint.query, text) for text in texts]


def _unfinished_rewind(files: Files, checkpoint: Checkpoint) -> list[str]:
    if files.read(f"{checkpoint.path}{REWINDING}") is None:
        return []
    return ["a rewind began and did not finish: ask for the same rewind again, which finishes it"]


def _batches(checkpoint: Checkpoint) -> list[str]:
    planned, finished = checkpoint.planned, checkpoint.finished
    if not planned:
        return ["no batch has offsets, though some are committed"] if finished else []
    texts = [
        f"{folder}/{missing} is missing, between {ids[0]} and {ids[-1]}"
        for folder, ids in (("offsets", planned), ("commits", finished))
        for missing in sorted(set(range(ids[0], ids[-1] + 1) if ids else ()) - set(ids))
    ]
    newest = finished[-1] if finished else planned[0] - 1
    if newest > planned[-1]:
        texts.append(f"batch {newest} is committed and has no offsets: the newest are those of batch {planned[-1]}")
    if finished and finished[0] > planned[0]:
        # Spark cleans offsets up before commits, so the oldest offsets have a commit.
        texts.append(f"commits/{planned[0]} is missing: the oldest commit is {finished[0]}")
    if planned[-1] - newest > 1:
        texts.append(
            f"batches {newest + 1} to {planned[-1]} are planned and not committed: at most one can be under way"
        )
    return texts


def _content(files: Files, checkpoint: Checkpoint) -> list[str]:
    texts = []
    sources: dict[int, int] = {}
    try:
        read_query_id(files, checkpoint)
    except DamagedError as error:
        texts.append(str(error))
    for batch in checkpoint.planned:
        try:
            sources[batch] = len(read_offsets(files, checkpoint, batch).sources)
        except DamagedError as error:
            texts.append(str(error))
    for batch in checkpoint.finished:
        try:
            read_commit(files, checkpoint, batch)
        except DamagedError as error:
            texts.append(str(error))
    if sources:
        usual = Counter(sources.values()).most_common(1)[0][0]
        texts += [
            f"offsets/{batch} is cut short: it names {count} sources where others name {usual}"
            for batch, count in sources.items()
            if count != usual
        ]
    return texts


def state_problems(files: Files, checkpoint: Checkpoint, batch: int) -> list[str]:
    """Return why the state that `batch` left can't be read, one sentence for each store; empty if it can."""
    if not checkpoint.stateful:
        return []
    texts: list[str] = []
    version = batch + 1
    there = {(store.operator, store.name, store.partition) for store in checkpoint.stores}
    for operator, name, partitions in _expected(files, checkpoint, texts):
        for partition in range(partitions):
            if (operator, name, partition) not in there:
                texts.append(f"state of operator {operator}, store {name}, partition {partition} is missing")
    for store in checkpoint.stores:
        try:
            base = store.base(version)
            _snapshot(files, checkpoint, store, base)
        except DamagedError as error:
            texts.append(str(error))
    return texts


def _expected(files: Files, checkpoint: Checkpoint, texts: list[str]) -> list[tuple[int, str, int]]:
    """Return operator, store and number of partitions of all state, as Spark notes them at a query's start."""
    newest: dict[int, tuple[int, str]] = {}
    for path in checkpoint.files:
        parts = path.split("/")
        if parts[0] == "state" and len(parts) >= 4 and parts[2] == "_metadata" and parts[1].isdecimal():
            order = int(parts[-1]) if parts[-1].isdecimal() else -1
            newest[int(parts[1])] = max(newest.get(int(parts[1]), (-2, "")), (order, path))
    for operator in sorted({store.operator for store in checkpoint.stores} - set(newest)):
        texts.append(f"state/{operator}/_metadata is missing: it says which stores operator {operator} has")
    found = []
    for operator, (_, path) in sorted(newest.items()):
        try:
            document = json.loads((files.read(f"{checkpoint.path}/{path}") or b"").decode().split("\n", 1)[1])
            found += [(operator, each["storeName"], each["numPartitions"]) for each in document["stateStoreInfo"]]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            texts.append(f"{path} is damaged ({error})")
    return found


def _snapshot(files: Files, checkpoint: Checkpoint, store: Store, version: int) -> None:
    """Look whether a whole version of RocksDB has all of its files. Raises DamagedError."""
    name = f"{store.place}/{version}.zip"
    if name not in checkpoint.files:
        return
    content = files.read(f"{checkpoint.path}/{name}")
    try:
        with zipfile.ZipFile(io.BytesIO(content or b"")) as archive:
            listed: dict[str, Any] = json.loads(archive.read("metadata").decode().split("\n", 1)[1])
    except (zipfile.BadZipFile, KeyError, ValueError, IndexError) as error:
        raise DamagedError(f"{name} is damaged ({error})") from error
    for table in listed.get("sstFiles") or ():
        file = f"{store.place}/SSTs/{table['dfsSstFileName']}"
        if file not in checkpoint.files:
            raise DamagedError(f"{file} is missing, which {name} is made of")
        if checkpoint.files[file].size != table["sizeBytes"]:
            raise DamagedError(f"{file} has {checkpoint.files[file].size} bytes, and {name} says {table['sizeBytes']}")


def _offsets(files: Files, checkpoint: Checkpoint, last: int, broker: Broker) -> list[str]:
    try:
        positions = read_offsets(files, checkpoint, last).positions
    except DamagedError:
        return []  # said already
    return misplaced(positions, broker.bounds(positions)) if positions else []


def _table(files: Files, checkpoint: Checkpoint, table: str) -> list[str]:
    try:
        query_id = read_query_id(files, checkpoint)
    except DamagedError:
        return []  # said already
    batch = newest_batch(files, table, query_id)
    newest = checkpoint.planned[-1] if checkpoint.planned else -1
    if batch is None or batch <= newest:
        return []
    return [
        f"the table {table} holds batch {batch} of this query, and the checkpoint's newest is {newest}: Delta would "
        f"drop batches up to {batch} without a word; rewind to batch {newest}, which gives the query another id"
    ]
