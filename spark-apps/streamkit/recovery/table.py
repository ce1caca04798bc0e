"""What a Delta table's log says of a query's batches, and the way back to an earlier version.

Each batch's commit holds the transaction (query id, batch id), by which Delta passes over a batch that it has already.
Read from the log's JSON files themselves (Delta's protocol, `_delta_log/<version>.json`), so that no JVM has to start.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from streamkit.errors import first_line
from streamkit.recovery import RecoveryError
from streamkit.recovery.files import Files


@dataclass(frozen=True)
class TableCommit:
    """One version of a table."""

    version: int
    batches: dict[str, int]
    """Query id to the batch that this commit brought."""
    changes_rows: bool
    operation: str


@dataclass(frozen=True)
class Era:
    """The batches of a query under one id: a rewind gives it another one."""

    query_id: str
    after: int = -1
    """The batch that was rewound to when the id was given; -1 for the first id."""
    table_version: int | None = None
    """The version of the table when the id was given, -1 if there was no table; None for the first id, or where nobody
    looked."""


@dataclass(frozen=True)
class Lineage:
    """The ids that a query has had; only the eras that still count, oldest first, and what went with the others."""

    eras: tuple[Era, ...]
    ids: frozenset[str]
    """All ids, also those none of whose batches are left."""
    restored: frozenset[int] = frozenset()
    """Versions of the table that rewinds made."""

    def of(self, batch: int) -> Era:
        """Return the era that a batch belongs to."""
        return next(era for era in reversed(self.eras) if era.after < batch or era is self.eras[0])


@dataclass(frozen=True)
class TablePlan:
    """The way of a table back to where a batch had left it."""

    path: str
    newest: int
    version: int | None
    """The version to restore; None: the table did not exist then, so all rows are deleted."""
    undone: tuple[int, ...]
    """Batches whose rows go, oldest first."""


def commits(files: Files, path: str) -> Iterator[TableCommit]:
    """Yield the commits that the table's log still has, newest first. Raises RecoveryError for one that is damaged."""
    folder = f"{path}/_delta_log"
    names = [file.path for file in files.walk(folder)]
    versions = sorted((int(stem) for stem, _, end in (name.partition(".") for name in names) if _json(stem, end)))
    for version in reversed(versions):
        name = f"{folder}/{version:020}.json"
        content = files.read(name)
        if content is None:
            return  # the log was cleaned up meanwhile; so is all that is older
        try:
            actions = [json.loads(line) for line in content.splitlines() if line.strip()]
        except ValueError as error:
            raise RecoveryError(f"{name} is damaged ({error}): restore the table first") from error
        yield _commit(version, actions)


def _json(stem: str, end: str) -> bool:
    return stem.isdecimal() and end == "json"


def _commit(version: int, actions: Sequence[dict[str, Any]]) -> TableCommit:
    batches, changes_rows, operation = {}, False, "unknown"
    for action in actions:
        if transaction := action.get("txn"):
            batches[str(transaction["appId"])] = int(transaction["version"])
        if information := action.get("commitInfo"):
            operation = str(information.get("operation", operation))
        for kind in ("add", "remove"):
            if kind in action:
                changes_rows = changes_rows or bool(action[kind].get("dataChange", True))
    return TableCommit(version, batches, changes_rows, operation)


def newest_batch(files: Files, path: str, query_id: str) -> int | None:
    """Return the newest batch of a query that the table holds, by the commits that are still there."""
    return next((each.batches[query_id] for each in commits(files, path) if query_id in each.batches), None)


def newest_version(files: Files, path: str) -> int | None:
    """Return the table's newest version, or None if there is no table."""
    return next((each.version for each in commits(files, path)), None)


def plan_restore(files: Files, path: str, lineage: Lineage, batch: int) -> TablePlan | None:
    """Return how the table goes back to where `batch` had left it, or None if no later batch is in it.

    Raises RecoveryError if somebody else has written rows since, which would be lost, or an earlier rewind left the
    table out.
    """
    era = lineage.of(batch)
    if era is not lineage.eras[0] and era.table_version is None:
        raise RecoveryError(
            f"{path}: the last rewind before batch {batch} did not look at the table, so nobody knows which version of "
            "it belongs to this batch: keep the table as it is (--keep-table), and correct it by hand"
        )
    floor = -1 if era.table_version is None else era.table_version
    undone: list[int] = []
    first = newest = None
    target = floor
    others: list[TableCommit] = []
    for each in commits(files, path):
        newest = each.version if newest is None else newest
        if each.version <= floor:
            break
        own = {name: number for name, number in each.batches.items() if name in lineage.ids}
        if era.query_id in own and own[era.query_id] <= batch:
            target = each.version
            break
        if own:
            undone += own.values()
            first = each.version
        elif each.changes_rows and each.version not in lineage.restored:
            others.append(each)
    if first is None or newest is None:
        return None
    if since := [each for each in others if each.version > first]:
        raise RecoveryError(
            f"{path}: {since[-1].operation} wrote version {since[-1].version} after batch {batch}, and restoring the "
            "table would undo that too: keep the table as it is (--keep-table), and correct it by hand"
        )
    # Right before the first batch that goes, so that what others wrote up to then stays.
    version = max(target, first - 1)
    return TablePlan(path, newest, version if version >= 0 else None, tuple(sorted(set(undone))))


def restore(spark: SparkSession, plan: TablePlan) -> None:
    """Take a table back; doing it again changes nothing more. Raises RecoveryError if Delta refuses."""
    name = plan.path.replace("`", "``")
    if plan.version is None:
        statement = f"DELETE FROM delta.`{name}`"  # noqa: S608 - a name, quoted
    else:
        statement = f"RESTORE TABLE delta.`{name}` TO VERSION AS OF {plan.version}"
    try:
        spark.sql(statement).collect()
    except PySparkException as error:
        raise RecoveryError(
            f"{plan.path} cannot be taken back to version {plan.version} ({first_line(error)}): nothing of the "
            "checkpoint was changed; if the table was vacuumed since, keep it as it is (--keep-table)"
        ) from error
