"""What `inspect` says of a checkpoint, as plain values and as text for people."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from streamkit.recovery.files import Files
from streamkit.recovery.layout import Checkpoint, DamagedError, Offsets, Positions, backups, read_offsets, read_query_id
from streamkit.recovery.rewinding import Plan
from streamkit.recovery.soundness import Finding
from streamkit.recovery.state import StateRows


def summarize(files: Files, checkpoint: Checkpoint, batches: int) -> dict[str, Any]:
    """Return what a checkpoint holds, with its `batches` newest batches. Raises RecoveryError."""
    planned, finished = checkpoint.planned, checkpoint.finished
    newest = max((file.modified for file in checkpoint.files.values()), default=None)
    try:
        query_id: str | None = read_query_id(files, checkpoint)
    except DamagedError:
        query_id = None
    return {
        "path": checkpoint.path,
        "query": checkpoint.query,
        "query_id": query_id,
        "planned": planned[-1] if planned else None,
        "finished": finished[-1] if finished else None,
        "clean": planned[-1:] == finished[-1:],
        "oldest": planned[0] if planned else None,
        "files": len(checkpoint.files),
        "bytes": sum(file.size for file in checkpoint.files.values()),
        "changed_at": moment(newest),
        "age_seconds": None if newest is None else round(datetime.now(UTC).timestamp() - newest, 1),
        "batches": [_batch(files, checkpoint, batch) for batch in planned[-batches:]] if batches else [],
        "state": _state(checkpoint),
        "backups": backups(files, checkpoint.path),
    }


def _batch(files: Files, checkpoint: Checkpoint, batch: int) -> dict[str, Any]:
    commit = checkpoint.files.get(f"commits/{batch}")
    found: dict[str, Any] = {"batch": batch, "finished_at": moment(commit.modified) if commit else None}
    try:
        offsets = read_offsets(files, checkpoint, batch)
    except DamagedError as error:
        return {**found, "damaged": str(error)}
    found |= {"planned_at": moment(offsets.planned_ms / 1000), "offsets": offsets.positions}
    found["watermark"] = moment(offsets.watermark_ms / 1000) if offsets.watermark_ms else None
    return found | {"records": _records(files, checkpoint, offsets)}


def _records(files: Files, checkpoint: Checkpoint, offsets: Offsets) -> int | None:
    """Return how many offsets a batch covers; None for the oldest one, and where that can't be read."""
    if offsets.batch - 1 not in checkpoint.planned or not offsets.positions:
        return None
    try:
        before = read_offsets(files, checkpoint, offsets.batch - 1).positions
    except DamagedError:
        return None
    ends = [(offset, before.get(t, {}).get(p)) for t, each in offsets.positions.items() for p, offset in each.items()]
    return sum(end - start for end, start in ends if start is not None)


def _state(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for store in checkpoint.stores:
        versions = store.whole | store.changes
        one = found.setdefault(
            (store.operator, store.name),
            {"operator": store.operator, "store": store.name, "partitions": 0, "bytes": 0, "changed_at": 0.0}
            | {"oldest_version": min(versions), "newest_version": max(versions)},
        )
        one["partitions"] += 1
        one["bytes"] += store.size
        one["oldest_version"] = max(one["oldest_version"], min(versions))
        one["newest_version"] = min(one["newest_version"], max(versions))
        one["changed_at"] = max(one["changed_at"], store.modified)
    return [{**one, "changed_at": moment(one["changed_at"])} for one in found.values()]


def moment(seconds: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def as_text(summary: dict[str, Any]) -> str:
    """Return a summary as text and tables."""
    clean = "clean" if summary["clean"] else "the newest batch is not finished: a start runs it again"
    lines = [
        f"{summary['query']} ({summary['path']})",
        f"  query id {summary['query_id']}, batches {summary['oldest']} to {summary['planned']}, finished "
        f"{summary['finished']}: {clean}",
        f"  {summary['files']} files, {size(summary['bytes'])}, changed {summary['changed_at']} "
        f"({summary['age_seconds']} s ago)",
    ]
    rows = [
        [
            *(
                b["batch"],
                b.get("planned_at"),
                b["finished_at"] or "not finished",
                b.get("watermark"),
                b.get("records"),
            ),
            b.get("damaged") or places(b["offsets"]),
        ]
        for b in summary["batches"]
    ]
    lines += table(["batch", "planned", "finished", "watermark", "records", "read up to"], rows)
    rows = [
        [
            *(s["operator"], s["store"], s["partitions"], f"{s['oldest_version']} to {s['newest_version']}"),
            *(size(s["bytes"]), s["changed_at"]),
        ]
        for s in summary["state"]
    ]
    lines += table(["operator", "store", "partitions", "versions", "size", "changed"], rows)
    return "\n".join([*lines, *(f"  backup {path}" for path in summary["backups"])])


def places(positions: Positions) -> str:
    """Return positions as `topic 0:12 1:7`."""
    each = (f"{topic} {' '.join(f'{p}:{o}' for p, o in sorted(ps.items()))}" for topic, ps in sorted(positions.items()))
    return ", ".join(each) or "-"


def size(count: float) -> str:
    """Return bytes as people read them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return rows as lines with aligned columns; nothing if there is none."""
    cells = [list(map(str, head)), *([("-" if cell is None else str(cell)) for cell in row] for row in rows)]
    if len(cells) == 1:
        return []
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    ]


def plan_text(plan: Plan) -> str:
    """Return what a rewind will do."""
    lines = [
        f"rewind {plan.path} to {plan.target}",
        f"  backup      {plan.backup}",
        f"  removed     {len(plan.removed)} files; batches after {plan.batch} up to {plan.newest}"
        if plan.batch is not None
        else f"  removed     all {len(plan.removed)} files: the checkpoint begins anew at batch 0",
        f"  goes on at  {places(plan.positions)}: {plan.records} records are read again"
        if plan.records >= 0
        else f"  goes on at  {places(plan.positions)}: {-plan.records} records more are passed over than read again",
        f"  query id    {plan.old_id} becomes {plan.new_id}",
    ]
    if plan.table and plan.table.version is None:
        lines.append(f"  table       {plan.table.path}: all rows are deleted, as batch {plan.batch} had left none")
    elif plan.table:
        undone = f"batches {plan.table.undone[0]} to {plan.table.undone[-1]} go"
        lines.append(
            f"  table       {plan.table.path}: version {plan.table.newest} back to {plan.table.version}; {undone}"
        )
    elif plan.table_path and plan.batch is not None:
        lines.append(f"  table       {plan.table_path}: has no batch after {plan.batch}, stays as it is")
    else:
        lines.append(
            "  table       stays as it is: rows of records that are read again come a second time in mode append"
        )
    return "\n".join(lines)


def findings_text(path: str, findings: Sequence[Finding]) -> str:
    """Return findings, one a line, or that there is none."""
    return "\n".join(f"{each.query}: {each.text}" for each in findings) or f"{path}: sound"


def state_text(found: StateRows) -> str:
    """Return a store's rows."""
    head = (
        f"operator {found.operator} ({found.name}), store {found.store}, after batch {found.batch}: {found.count} rows"
    )
    names = list(found.rows[0]) if found.rows else []
    return "\n".join([head, *table(names, ([row[name] for name in names] for row in found.rows))])
