"""One instance at a time for each MILLRACE_HOME, and no leftovers of one that was killed."""

import contextlib
import fcntl
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import psutil

from embedded.errors import UserError
from embedded.processes import INSTANCE_VARIABLE, end_all
from embedded.settings import Settings, make_home


@dataclass(frozen=True)
class Record:
    """What instance.json says of the running instance, or of one that did not end properly."""

    id: str
    """Value of MILLRACE_INSTANCE in all its processes."""
    pid: int
    """The supervisor."""
    created: float
    """When the supervisor's process began, seconds since the epoch."""
    command: str
    """`run` or `up`."""
    started: str
    """Local time, ISO 8601."""
    state: str
    """`starting`, `ready` or `stopping`."""
    kafka_port: int
    airflow_port: int


class Instance:
    """The right to use a MILLRACE_HOME, held by this process. Made by `claim`."""

    def __init__(self, settings: Settings, record: Record) -> None:
        self.settings = settings
        self.record = record

    @property
    def environment(self) -> dict[str, str]:
        """What marks a process as this instance's."""
        return {INSTANCE_VARIABLE: self.record.id}

    def set_state(self, state: str) -> None:
        """Say in instance.json how far it is."""
        self.record = replace(self.record, state=state)
        write_record(self.settings, self.record)

    def end_processes(self) -> int:
        """End every process of this instance that is left; return how many there were."""
        return end_all(self.record.id)


def read_record(settings: Settings) -> Record | None:
    """What instance.json says, or None if there is none that can be read."""
    try:
        return Record(**json.loads((settings.home / "instance.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_record(settings: Settings, record: Record) -> None:
    """Write instance.json so that a reader sees the old content or the new."""
    path = settings.home / "instance.json"
    temporary = path.with_name(f".instance.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(record), indent=1))
    temporary.replace(path)


def is_claimed(settings: Settings) -> bool:
    """Whether some process holds the home now."""
    try:
        descriptor = os.open(settings.home / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def end_leftovers(settings: Settings) -> int:
    """End what an instance left that was killed before it could; return the number of processes.

    Only for the holder of the home.
    """
    record = read_record(settings)
    if record is None:
        return 0
    count = end_all(record.id)
    (settings.home / "instance.json").unlink(missing_ok=True)
    return count


@contextmanager
def claim(settings: Settings, command: str) -> Iterator[Instance]:
    """Hold MILLRACE_HOME for this process, with a new instance's id; end leftovers of an earlier one first.

    Raises:
        UserError: another instance runs there, or the folder can't be written.
    """
    make_home(settings)
    with _lock(settings):
        leftovers = end_leftovers(settings)
        if leftovers:
            print(f"Ended {leftovers} left-over process(es) of an earlier run that was killed.", flush=True)
        me = psutil.Process()
        record = Record(
            id=str(uuid.uuid4()),
            pid=me.pid,
            created=me.create_time(),
            command=command,
            started=datetime.now().astimezone().isoformat(timespec="seconds"),
            state="starting",
            kafka_port=settings.kafka_port,
            airflow_port=settings.airflow_port,
        )
        write_record(settings, record)
        instance = Instance(settings, record)
        try:
            yield instance
        finally:
            instance.end_processes()
            (settings.home / "instance.json").unlink(missing_ok=True)


@contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    # Not inheritable: only this process holds the lock, so it is free as soon as this process is gone.
    descriptor = os.open(settings.home / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        if not _try_lock(descriptor):
            raise UserError(_who(settings))
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    # A probe of `is_claimed` may hold it for an instant.
    for _ in range(5):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.05)
    return False


def _who(settings: Settings) -> str:
    record = read_record(settings)
    if record is None:
        return f"Another command is working in {settings.home}: wait for it, or set MILLRACE_HOME to another folder."
    since = record.started.partition("T")[2][:8]
    return (
        f"Another `make {record.command}` is running in {settings.home} (process {record.pid}, since {since}): wait "
        "for it to end, or stop it with `make down`."
    )
