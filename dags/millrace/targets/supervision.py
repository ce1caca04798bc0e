"""Starts and stops supervisors (see `runner`), so that there is never more than one driver in a folder."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.targets.runner import Spec
from millrace.targets.state import (
    AppDirectory,
    acquire,
    is_alive,
    is_held,
    signal_group,
    wait_until_free,
    write_json,
)

START_TIMEOUT = 30.0
"""Seconds for a supervisor to say that it lives."""
START_PATIENCE = 0.2
"""Seconds to wait for a lock that a probe or a dying process may hold for an instant."""
FORCE_TIMEOUT = 10.0
"""Seconds between SIGTERM and SIGKILL, and again until the end is taken for failed."""
ACTIVE = ("SUBMITTED", "RUNNING", "PENDING_RERUN")


def current_status(directory: AppDirectory) -> dict[str, Any]:
    """Return status.json, corrected where its writer was killed before it could say how it ended."""
    held = is_held(directory.lock)  # Asked first: whoever ends writes his last status before he lets go.
    status = directory.read_status()
    if status.get("state") not in ACTIVE:
        return status
    if not held:
        message = "the supervisor and the driver were killed; starting it again continues from its checkpoint"
        return status | {"state": "FAILED", "message": message, "metrics_url": None}
    if status["state"] == "RUNNING" and not is_alive(status.get("runner")):
        return status | {"message": "the supervisor was killed; the driver runs, but nobody will restart it"}
    return status


def start(
    directory: AppDirectory,
    spec: Spec,
    root: Path,
    *,
    stop_orphan: Callable[[], object],
    prepare: Callable[[], object] = lambda: None,
) -> None:
    """Start a supervisor, unless this owner's already runs.

    `stop_orphan` is called where a driver lives without a supervisor, or one that was asked to stop still does;
    `prepare` when it is sure that nothing runs, before something is started.
    Raises OwnedByAnotherError if another owner's runs, MillraceError if the folder can't be written.
    """
    try:
        directory.path.mkdir(parents=True, exist_ok=True)
        lock = _claim(directory, spec.owner, stop_orphan)
        if lock is None:
            return
        try:
            prepare()
            _spawn(directory, spec, lock, root)
        finally:
            os.close(lock)  # The supervisor has its own copy.
    except OSError as error:
        reason = error.strerror or error
        raise MillraceError(
            f"Cannot start {spec.name} in {directory.path}: {reason}; check that disk and its rights."
        ) from error


def _claim(directory: AppDirectory, owner: str, stop_orphan: Callable[[], object]) -> int | None:
    """Take the lock to start something, or return None if this owner's supervisor already runs."""
    name = directory.path.name
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        lock = acquire(directory.lock, START_PATIENCE)
        if lock is not None:
            return lock
        status = directory.read_status()
        if status.get("state") not in ACTIVE or (status["state"] == "SUBMITTED" and "runner" not in status):
            continue  # Somebody is just about to start it, or it is just about to end.
        if status.get("owner") != owner:
            raise OwnedByAnotherError(
                f"{name} is already run by {status.get('owner')}: wait for that run to end, or stop it first."
            )
        if is_alive(status.get("runner")) and not directory.stop.exists():
            return None
        stop_orphan()
    raise MillraceError(f"{name} is being started or stopped by somebody else at this moment: try again.")


def _spawn(directory: AppDirectory, spec: Spec, lock: int, root: Path) -> None:
    previous = directory.read_status()
    if previous.get("owner") == spec.owner:
        spec = replace(spec, first_try=previous.get("tries", 0) + 1)
    else:
        for log in directory.logs():
            log.unlink()
        directory.result.unlink(missing_ok=True)
    directory.stop.unlink(missing_ok=True)
    # The environment may hold passwords.
    write_json(directory.spec, asdict(spec), mode=0o600)
    # From here on nobody may take the last status of an earlier run for this one's.
    submitted = {"state": "SUBMITTED", "tries": spec.first_try - 1}
    write_json(directory.status, {"kind": spec.kind, "name": spec.name, "owner": spec.owner, **submitted})
    command = [sys.executable, "-m", "millrace.targets.runner", str(directory.path), "--lock-fd", str(lock)]
    with (directory.path / "supervisor.log").open("ab") as output:
        runner = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=child_environment(os.environ, root),
            pass_fds=(lock,),
            start_new_session=True,
        )
    deadline = time.monotonic() + START_TIMEOUT
    while "runner" not in directory.read_status():
        if runner.poll() is not None or time.monotonic() >= deadline:
            raise MillraceError(f"The supervisor of {spec.name} did not start: see {output.name}.")
        time.sleep(0.02)


def ask_to_stop(directory: AppDirectory, owner: str | None) -> bool:
    """Leave the stop file that keeps the supervisor from restarting; return False if nothing runs.

    Raises OwnedByAnotherError if `owner` is given and it isn't his.
    """
    if not is_held(directory.lock):
        return False
    other = directory.read_status().get("owner")
    if owner is not None and other != owner:
        name = directory.path.name
        raise OwnedByAnotherError(f"{name} belongs to {other}, so it was left running: stop that run instead.")
    directory.stop.touch()
    return True


def end(directory: AppDirectory, timeout: float) -> None:
    """Wait for the end of supervisor and driver; after `timeout` seconds force it, and say so in the status.

    Raises MillraceError if force doesn't help.
    """
    if wait_until_free(directory.lock, timeout):
        return
    message = f"did not stop within {timeout:g} s, so it was ended by force; its last batch will be done again"
    for number in (signal.SIGTERM, signal.SIGKILL):
        write_json(directory.stop, {"force": f"{message} ({number.name})"})
        signal_group(directory.read_status().get("driver"), number)
        if wait_until_free(directory.lock, FORCE_TIMEOUT):
            break
    else:
        name = directory.path.name
        raise MillraceError(f"{name} does not end, not even by SIGKILL: see {directory.path} and its processes.")
    status = directory.read_status()
    if status.get("state") in ACTIVE:  # There was no supervisor to say how it ended.
        write_json(directory.status, status | {"state": "FAILED", "message": message, "metrics_url": None})


def child_environment(environ: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return the environment for a child: our packages on PYTHONPATH, and nothing of Airflow's (keys, tokens)."""
    result = {key: value for key, value in environ.items() if "AIRFLOW" not in key.upper()}
    result["PYTHONPATH"] = os.pathsep.join(str(path) for path in (root, root / "dags", root / "spark-apps"))
    result["PYTHONUNBUFFERED"] = "1"
    return result


def require_java(environ: Mapping[str, str]) -> None:
    """Raise MillraceError if there is no `java` for Spark: in JAVA_HOME if that is set, else on the PATH."""
    home = environ.get("JAVA_HOME")
    if home and not os.access(Path(home) / "bin" / "java", os.X_OK):
        raise MillraceError(f"JAVA_HOME is {home}, where there is no bin/java: correct it, or unset it.")
    if not home and shutil.which("java", path=environ.get("PATH")) is None:
        raise MillraceError("There is no java for Spark: run `make setup`, or install Java 17 and set JAVA_HOME.")
