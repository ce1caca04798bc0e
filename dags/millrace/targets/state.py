"""Files of one application or job of the embedded target, and what they say about its processes.

The lock tells the truth about life: the supervisor holds it, and the driver inherits it, so it is free only
when both have ended, however they ended. status.json tells what they last said.
"""

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil


@dataclass(frozen=True)
class AppDirectory:
    """The folder `apps/<name>` of an application or job."""

    path: Path

    @property
    def spec(self) -> Path:
        """What to run: command, environment, restart policy, owner."""
        return self.path / "spec.json"

    @property
    def status(self) -> Path:
        """What the supervisor last said."""
        return self.path / "status.json"

    @property
    def lock(self) -> Path:
        """Held by whoever lives: starter, supervisor, driver."""
        return self.path / "lock"

    @property
    def stop(self) -> Path:
        """Its presence tells the supervisor that an end of the driver is wanted."""
        return self.path / "stop"

    @property
    def result(self) -> Path:
        """The status file that a job writes."""
        return self.path / "result.json"

    @property
    def temporary(self) -> Path:
        """Where drivers put temporary files; empty when one starts, gone when it has ended."""
        return self.path / "tmp"

    def log(self, attempt: int) -> Path:
        """Output of the driver of the given try, counted from 1."""
        return self.path / f"driver-{attempt}.log"

    def logs(self) -> list[Path]:
        """All drivers' logs, oldest first."""
        return sorted(self.path.glob("driver-*.log"), key=lambda path: int(path.stem.removeprefix("driver-")))

    def read_status(self) -> dict[str, Any]:
        """Return status.json, or an empty dictionary if there is none."""
        return read_json(self.status) or {}


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Write `value` to `path` so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file, indent=1)
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, or None if there is no such file or it isn't a JSON object."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def acquire(lock: Path, patience: float = 0.0) -> int | None:
    """Take the lock and return its descriptor, or None if it is still held after `patience` seconds."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.05)
        else:
            return descriptor


def is_held(lock: Path) -> bool:
    """True if a living process holds the lock exclusively.

    A shared probe, so that probes don't hinder each other.
    """
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def wait_until_free(lock: Path, timeout: float) -> bool:
    """Wait at most `timeout` seconds until nobody holds the lock; return whether that came true."""
    deadline = time.monotonic() + timeout
    while is_held(lock):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)
    return True


def identify(pid: int) -> dict[str, float] | None:
    """Return what names a process even after its number is used again, or None if it has ended."""
    try:
        return {"pid": pid, "created": psutil.Process(pid).create_time()}
    except psutil.Error:
        return None


def is_alive(identity: dict[str, float] | None) -> bool:
    """True if the process that `identify` named still runs."""
    if not identity:
        return False
    try:
        process = psutil.Process(int(identity["pid"]))
        return abs(process.create_time() - identity["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def signal_group(identity: dict[str, float] | None, number: int) -> bool:
    """Send a signal to the process group that a living process leads; return whether there was one."""
    if not is_alive(identity) or identity is None:
        return False
    try:
        os.killpg(int(identity["pid"]), number)
    except ProcessLookupError:
        return False
    return True
