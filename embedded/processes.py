"""Find and end the processes that belong to one instance, whoever started them."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

INSTANCE_VARIABLE = "MILLRACE_INSTANCE"
"""Environment variable that marks every process of an instance with its id; children inherit it."""


def members(instance: str) -> list[psutil.Process]:
    """The living processes, except this one, that carry the instance's id in their environment."""
    found = []
    for process in psutil.process_iter():
        # Other users' processes don't show their environment; none of ours runs as another user.
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(INSTANCE_VARIABLE) == instance:
                found.append(process)
    return found


def command_line(process: psutil.Process) -> list[str]:
    """The process's command line, one string for each argument; an empty list if the process has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def end_all(instance: str, grace_seconds: float = 5.0) -> int:
    """End every process of an instance: SIGTERM, then SIGKILL; return how many there were.

    Looks again until none is left, because a process may start another while it is being ended.
    """
    ended: set[tuple[int, float]] = set()
    deadline = time.monotonic() + grace_seconds
    number = signal.SIGTERM
    while processes := members(instance):
        for process in processes:
            with contextlib.suppress(psutil.Error):
                identity = (process.pid, process.create_time())
                if number == signal.SIGKILL or identity not in ended:
                    process.send_signal(number)
                ended.add(identity)
        psutil.wait_procs(processes, timeout=0.2)
        if time.monotonic() >= deadline:
            number = signal.SIGKILL
    return len(ended)


def alive(pid: int, created: float) -> bool:
    """Whether the process that had this id and start time (seconds since the epoch) still runs."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def memory_mebibytes(processes: Iterable[psutil.Process]) -> float:
    """Memory that the processes hold together: each one's proportional share of what it shares, where that is known."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            information = process.memory_full_info()
            total += getattr(information, "pss", 0) or information.rss
    return total / 2**20


def rotate(log: Path) -> None:
    """Keep the log of the former run beside the new one, which begins empty."""
    with contextlib.suppress(FileNotFoundError):
        log.replace(log.with_name(log.name + ".previous"))
