"""Start Airflow's components from one process that has imported Airflow once.

``python -m embedded.airflow_launcher LOG_DIRECTORY [migrate|close-runs]``. Importing Airflow takes 2 to 3 s of CPU
time, and each of its components begins with it; a fork of a process that has done so begins at once and shares its
memory. In each fork runs Airflow's own command line, in its own session, with its output in
``airflow-<component>.log``.

Ends when told to (SIGTERM), or when a component ends by itself; then nothing of Airflow is left. Its exit status is 0
only in the first case.
"""

# ruff: noqa: PLC0415 - what is imported when, and in which process, is what this module is about

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

COMPONENTS = {
    "api-server": ["api-server"],
    # Task logs are read from the disk by the API server, so nobody needs to serve them to it.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
"""In the order of their start: the one that takes longest to come up is first."""

PRELOADED = (
    "airflow",
    "airflow.cli.cli_parser",
    "airflow.jobs.job",
    "airflow.models.dag",
    "airflow.models.dagbag",
    "airflow.models.serialized_dag",
)
"""What all components import. None of it starts a thread or opens a connection, so it may be there before a fork."""

GRACE_SECONDS = 3.0
"""For the components to end by themselves. Whatever they do is in the database, so cutting it short loses nothing."""


def main() -> int:
    """Run the components until one ends or a signal comes."""
    logs = Path(sys.argv[1])
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    # Waking a wait is enough; the loop below looks at the flag.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    gc.disable()
    for module in PRELOADED:
        importlib.import_module(module)
    gc.enable()
    # What is there now stays for ever: the collector need not touch, and thereby copy, the shared pages.
    gc.freeze()
    first = {"migrate": lambda: _airflow(["db", "migrate"]), "close-runs": close_runs}
    for name in sys.argv[2:]:
        if not stopping and (status := _wait_for(_start(name, first[name], logs))):
            sys.stderr.write(f"{name} ended with exit status {status}\n")
            return 1
    children: dict[int, str] = {}
    for name, arguments in COMPONENTS.items():
        if stopping:
            break
        children[_start(name, partial(_airflow, arguments), logs)] = name
    _write_processes(logs, children)
    failed = ""
    while not stopping and not failed:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in children:
            failed = f"{children.pop(pid)} ended with exit status {os.waitstatus_to_exitcode(status)}"
        elif not pid:
            time.sleep(0.1)
    _end(children)
    if failed:
        sys.stderr.write(failed + "\n")
        return 1
    return 0


def close_runs() -> int:
    """Set to failed what was under way when Airflow was last stopped.

    The applications that those runs watched were stopped with it; left as they are, the runs would start them again
    beside a new run, or hold it up.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, State, TaskInstanceState
    from airflow.utils.timezone import utcnow
    from sqlalchemy import select, update

    with create_session() as session:
        runs = DagRun.state.in_([DagRunState.QUEUED, DagRunState.RUNNING])
        begun = TaskInstance.state.in_([state for state in State.unfinished if state is not None])
        of_runs = TaskInstance.run_id.in_(select(DagRun.run_id).where(runs))
        failed = {"state": TaskInstanceState.FAILED, "end_date": utcnow()}
        options = {"synchronize_session": False}
        session.execute(update(TaskInstance).where(begun, of_runs).values(failed), execution_options=options)
        failed = {"state": DagRunState.FAILED, "end_date": utcnow()}
        session.execute(update(DagRun).where(runs).values(failed), execution_options=options)
    return 0


def _airflow(arguments: list[str]) -> int:
    """Airflow's own command line; returns its exit status."""
    if arguments[0] == "api-server":
        # It makes some 100,000 long-lived objects at its start, and the collector would look at all again and again.
        gc.set_threshold(50_000, 20, 50)
    sys.argv = ["airflow", *arguments]
    from airflow.__main__ import main as airflow_main

    try:
        airflow_main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _start(name: str, work: Callable[[], int], logs: Path) -> int:
    """Fork a process that does the work in its own session, and return its id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        log = os.open(logs / f"airflow-{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        code = work()
    except BaseException:  # noqa: BLE001 - whatever it was: it belongs into this process's log, not into the caller's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _write_processes(logs: Path, children: dict[int, str]) -> None:
    path = logs / ".airflow-processes"
    path.write_text(json.dumps({name: pid for pid, name in children.items()}))
    path.replace(logs / "airflow-processes.json")


def _end(children: dict[int, str]) -> None:
    """SIGTERM to each component's process group, and SIGKILL to what is left of it after a while."""
    for pid in children:
        _signal_group(pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    left = set(children)
    while left and time.monotonic() < deadline:
        left -= {pid for pid in left if os.waitpid(pid, os.WNOHANG)[0]}
        time.sleep(0.05)
    for pid in children:
        _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    sys.exit(main())
