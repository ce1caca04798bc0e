"""``status`` and ``logs``: what runs, and what it says."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from embedded.errors import UserError
from embedded.instance import is_claimed, read_record
from embedded.processes import command_line, members, memory_mebibytes
from embedded.settings import Settings
from millrace.targets.state import AppDirectory, is_held

TAIL_LINES = 40


def status(settings: Settings) -> int:
    """Print what runs; return 0 if an instance is ready, else 3 (as service managers do)."""
    record = read_record(settings)
    if record is None or not is_claimed(settings):
        left = len(members(record.id)) if record else 0
        print("Nothing runs." + (f" A killed run left {left} processes: `make down` ends them." if left else ""))
        return 3
    # Ports as that instance has them, whatever this command's environment says.
    print(f"`make {record.command}` since {record.started} (process {record.pid}): {record.state}")
    print(f"Kafka 127.0.0.1:{record.kafka_port}   Airflow http://127.0.0.1:{record.airflow_port}   {settings.home}")
    table = Table(box=None, pad_edge=False)
    for name in ("part", "process", "memory", "log"):
        table.add_column(name, justify="right" if name in ("process", "memory") else "left", overflow="fold")
    for part, pid, log in _parts(settings, record.pid):
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            if part == "supervisor":
                family = [process]
            table.add_row(part, str(pid), f"{memory_mebibytes(family):,.0f} MiB", str(log) if log else "")
    console = Console(highlight=False)
    console.print(table)
    everything = [*members(record.id), psutil.Process(record.pid)]
    print(f"{len(everything)} processes, {memory_mebibytes(everything):,.0f} MiB together")
    return 0 if record.state == "ready" else 3


def _parts(settings: Settings, supervisor: int) -> Iterator[tuple[str, int, Path | None]]:
    log = settings.logs / "supervisor.log"
    yield "supervisor", supervisor, log if log.exists() else None
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(supervisor).children():
            if "kafka.Kafka" in command_line(child):
                yield "kafka", child.pid, settings.logs / "kafka.log"
    with contextlib.suppress(OSError, ValueError):
        for name, pid in json.loads((settings.logs / "airflow-processes.json").read_bytes()).items():
            yield f"airflow {name}", pid, settings.logs / f"airflow-{name}.log"
    for path in sorted(settings.apps.glob("*/lock")):
        directory = AppDirectory(path.parent)
        runner = directory.read_status().get("runner")
        if runner and is_held(path):
            logs = directory.logs()
            yield path.parent.name, int(runner["pid"]), logs[-1] if logs else None


def log_files(settings: Settings) -> dict[str, Path]:
    """The logs that there are, by the name that ``logs`` takes."""
    found = {path.stem: path for path in sorted(settings.logs.glob("*.log"))}
    for app in sorted(settings.apps.glob("*")):
        logs = AppDirectory(app).logs()
        if logs:
            found[app.name] = logs[-1]
    return found


def logs(settings: Settings, name: str | None, follow: bool) -> int:
    """Print the end of one log, or of the logs of everything; go on printing if ``follow``.

    Raises:
        UserError: there is no log of that name.
    """
    found = log_files(settings)
    if name is not None and name not in found:
        known = f"there are {', '.join(found)}" if found else "there are none yet: `make run` or `make up` makes some"
        raise UserError(f"There is no log {name!r} in {settings.logs}: {known}.", 2)
    chosen = {name: found[name]} if name else found
    if not chosen:
        print(f"There are no logs in {settings.logs} yet: `make run` or `make up` makes some.")
        return 0
    lines = TAIL_LINES if name else 5
    offsets = {}
    for title, path in chosen.items():
        print(f"==> {title}: {path}")
        offsets[path] = _print_tail(path, lines)
    while follow:
        time.sleep(0.3)
        for path, offset in offsets.items():
            offsets[path] = _print_since(path, offset)
    return 0


def _print_tail(path: Path, lines: int) -> int:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 300 * lines - 4096))
        text = file.read()
    sys.stdout.write("".join(f"{line}\n" for line in text.decode(errors="replace").splitlines()[-lines:]))
    sys.stdout.flush()
    return end


def _print_since(path: Path, offset: int) -> int:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        # A new run began the file anew.
        start = offset if offset <= file.seek(0, os.SEEK_END) else 0
        file.seek(start)
        text = file.read()
        sys.stdout.write(text.decode(errors="replace"))
        sys.stdout.flush()
        return start + len(text)
    return offset
