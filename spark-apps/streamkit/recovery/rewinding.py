"""Takes a query back to the end of an earlier batch, or (without state) to offsets: a plan, a backup, then the change.

A rewound query gets another id. Sinks know a batch by the query's id and the batch's number, and the numbers come again
with other rows: under the old id Delta would drop them without a word.

While a rewind is under way a file beside the checkpoint says so. An app that finds it does not start, and the same
rewind, asked for again, goes on where the first one was cut off. So nothing starts from a checkpoint that is half done.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from streamkit.checkpoint import BACKUP, REWINDING
from streamkit.recovery import RecoveryError
from streamkit.recovery.broker import Broker, misplaced
from streamkit.recovery.files import Files
from streamkit.recovery.layout import (
    Checkpoint,
    Positions,
    kafka_positions,
    read_commit,
    read_offsets,
    read_query_id,
)
from streamkit.recovery.soundness import state_problems
from streamkit.recovery.table import Era, Lineage, TablePlan, newest_version, plan_restore

HISTORY = "rewinds.json"
"""File in a checkpoint: the rewinds that were done, oldest first. Spark does not look at it."""


@dataclass(frozen=True)
class Plan:
    """What a rewind does. Kept as JSON while it is under way."""

    path: str
    target: str
    """What was asked for, in words."""
    batch: int | None
    """The batch that will be the newest; None: there will be none."""
    newest: int
    """The newest batch that is planned now."""
    backup: str
    old_id: str
    new_id: str
    positions: Positions
    """Where the query will go on to read."""
    records: int
    """How many records it will read again."""
    removed: tuple[str, ...]
    """Files of the checkpoint that go, in this order."""
    sources: dict[str, str] = field(default_factory=dict)
    """Files of the checkpoint that say where its sources start."""
    table: TablePlan | None = None
    table_path: str | None = None
    """The table that was looked at."""


def plan_batch(
    files: Files, checkpoint: Checkpoint, batch: int, *, broker: Broker | None = None, table: str | None = None
) -> Plan:
    """Plan the way back to the end of a batch. Raises RecoveryError if that batch is not there any more."""
    if batch not in checkpoint.finished or batch not in checkpoint.planned:
        raise RecoveryError(
            f"{checkpoint.path}: batch {batch} is not there: committed batches are {_range(checkpoint.finished)}"
        )
    read_commit(files, checkpoint, batch)
    positions = read_offsets(files, checkpoint, batch).positions
    if problems := state_problems(files, checkpoint, batch):
        reached = [b for b in checkpoint.finished if b > batch and not state_problems(files, checkpoint, b)]
        hint = (
            f"the oldest batch whose state is whole is {reached[0]}"
            if reached
            else "no later batch has its state either"
        )
        raise RecoveryError(f"{checkpoint.path}: the state of batch {batch} is not there ({problems[0]}): {hint}")
    if broker and positions:
        _require_records(positions, broker)
    later = [f"{folder}/{b}" for b in _down(checkpoint, batch) for folder in ("commits", "offsets")]
    plan = _plan(files, checkpoint, f"batch {batch}", positions)
    restored = plan_restore(files, table, lineage(files, checkpoint), batch) if table else None
    gone = [*checkpoint.state_after(batch), *(name for name in later if name in checkpoint.files)]
    return replace(plan, batch=batch, removed=tuple(gone), table=restored, table_path=table)


def plan_offsets(
    files: Files, checkpoint: Checkpoint, wanted: Positions, *, broker: Broker | None = None, table: str | None = None
) -> Plan:
    """Plan a checkpoint that starts at these offsets; a partition that is not named stays where it is.

    Raises RecoveryError if the query has state, which belongs to other records, or reads no such partition.
    """
    if checkpoint.stateful:
        raise RecoveryError(
            f"{checkpoint.path}: this query keeps state, which holds what it has read already: rewind to a batch "
            "(--to-batch), whose state goes back with it"
        )
    if not checkpoint.finished:
        raise RecoveryError(f"{checkpoint.path}: no batch is committed, so there is nothing to go back from")
    now = read_offsets(files, checkpoint, checkpoint.finished[-1])
    unknown = [f"{t}:{p}" for t, each in wanted.items() for p in each if p not in now.positions.get(t, {})]
    if unknown:
        raise RecoveryError(f"{checkpoint.path}: this query does not read {', '.join(unknown)}: correct --to-offsets")
    sources: dict[str, str] = {}
    positions: Positions = {}
    for number, source in enumerate(now.sources):
        started: Positions = {
            topic: {p: wanted.get(topic, {}).get(p, offset) for p, offset in each.items()}
            for topic, each in kafka_positions(source).items()
        }
        if not started:
            raise RecoveryError(
                f"{checkpoint.path}: source {number} is not a Kafka topic: rewind to a batch (--to-batch)"
            )
        # As Spark's Kafka source writes it, with the zero byte that its oldest readers need.
        sources[f"sources/{number}/0"] = f"\0v1\n{json.dumps(started)}"
        for topic, each in started.items():
            positions.setdefault(topic, {}).update(each)
    if broker:
        _require_records(positions, broker)
    plan = _plan(files, checkpoint, f"offsets {brief(wanted)}", positions)
    return replace(plan, removed=tuple(sorted(checkpoint.files)), sources=sources, table_path=table)


def _plan(files: Files, checkpoint: Checkpoint, target: str, positions: Positions) -> Plan:
    last = read_offsets(files, checkpoint, checkpoint.finished[-1]).positions
    records = sum(last[t][p] - o for t, each in positions.items() for p, o in each.items() if p in last.get(t, {}))
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return Plan(
        path=checkpoint.path,
        target=target,
        batch=None,
        newest=checkpoint.planned[-1],
        backup=f"{checkpoint.path}{BACKUP}{moment}",
        old_id=read_query_id(files, checkpoint),
        new_id=str(uuid.uuid4()),
        positions=positions,
        records=records,
        removed=(),
    )


def lineage(files: Files, checkpoint: Checkpoint) -> Lineage:
    """Return the ids that a query has had. Raises RecoveryError if their file is damaged."""
    history = _history(files, checkpoint.path)
    first = history[0]["old_id"] if history else read_query_id(files, checkpoint)
    eras, ids = [Era(first)], {first}
    for rewind in history:
        after = -1 if rewind["batch"] is None else rewind["batch"]
        eras = [era for era in eras if era.after < after] or eras[:1]
        eras = [*eras, Era(rewind["new_id"], after, rewind["table_version"])]
        ids.add(rewind["new_id"])
    restored = frozenset(each["table_version"] for each in history if each["table_version"] is not None)
    return Lineage(tuple(eras), frozenset(ids), restored)


def _history(files: Files, path: str) -> list[dict[str, Any]]:
    try:
        return json.loads(files.read(f"{path}/{HISTORY}") or b"[]")
    except ValueError as error:
        raise RecoveryError(
            f"{path}/{HISTORY} is damaged ({error}): restore it from a backup of the checkpoint"
        ) from error


def unfinished(files: Files, path: str) -> tuple[Plan, bool] | None:
    """Return the rewind of a checkpoint that was cut off, and whether its backup is complete."""
    content = files.read(f"{path}{REWINDING}")
    if content is None:
        return None
    document = json.loads(content)
    plan = document["plan"]
    table = plan.pop("table")
    positions = {t: {int(p): o for p, o in each.items()} for t, each in plan.pop("positions").items()}
    restored = TablePlan(**{**table, "undone": tuple(table["undone"])}) if table else None
    removed = tuple(plan.pop("removed"))
    return Plan(**plan, positions=positions, removed=removed, table=restored), document["backed_up"]


def rewind(files: Files, plan: Plan, restore: Callable[[TablePlan], None], backed_up: bool = False) -> None:
    """Do what a plan says. `restore` takes the table back; with `backed_up` the backup is there already.

    Raises RecoveryError. Until the backup is complete nothing is changed; after that, asking again goes on.
    """
    marker = f"{plan.path}{REWINDING}"
    if not backed_up:
        _mark(files, marker, plan, backed_up=False)
        files.copy(plan.path, plan.backup)
        if plan.table:
            try:
                restore(plan.table)
            except RecoveryError:
                files.delete([marker])
                raise
        _mark(files, marker, plan, backed_up=True)
    elif plan.table:
        restore(plan.table)
    files.delete(f"{plan.path}/{name}" for name in plan.removed)
    for name, content in plan.sources.items():
        files.write(f"{plan.path}/{name}", content.encode())
    files.write(f"{plan.path}/metadata", json.dumps({"id": plan.new_id}).encode())
    history = [each for each in _history(files, plan.backup) if each["new_id"] != plan.new_id]
    version = None
    if plan.table_path:
        found = newest_version(files, plan.table_path)
        version = -1 if found is None else found
    done = {"old_id": plan.old_id, "new_id": plan.new_id, "batch": plan.batch, "table_version": version}
    done |= {"at": datetime.now(UTC).isoformat(timespec="seconds"), "backup": plan.backup}
    files.write(f"{plan.path}/{HISTORY}", json.dumps([*history, done], indent=1).encode())
    files.delete([marker])


def _mark(files: Files, marker: str, plan: Plan, *, backed_up: bool) -> None:
    files.write(marker, json.dumps({"backed_up": backed_up, "plan": asdict(plan)}).encode())


def _require_records(positions: Positions, broker: Broker) -> None:
    if problems := misplaced(positions, broker.bounds(positions)):
        raise RecoveryError(f"the query could not read on from there: {problems[0]}: choose a later batch or offset")


def _down(checkpoint: Checkpoint, batch: int) -> list[int]:
    """Return the batches after this one, newest first."""
    return sorted({b for b in (*checkpoint.planned, *checkpoint.finished) if b > batch}, reverse=True)


def _range(ids: list[int]) -> str:
    return f"{ids[0]} to {ids[-1]}" if ids else "none"


def brief(positions: Positions) -> str:
    """Return positions as the command line takes them."""
    return " ".join(f"{t}:{p}:{o}" for t, each in sorted(positions.items()) for p, o in sorted(each.items()))
