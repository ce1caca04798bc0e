"""The target `embedded`: applications by a local spark-submit, jobs by a local Python, each under a
supervisor.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from millrace import storage
from millrace.config import Settings
from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.targets.base import ApplicationState, ApplicationStatus, JobSpec, JobState, JobStatus
from millrace.targets.manifest import driver_environment, load_manifest, submit_command
from millrace.targets.runner import Spec
from millrace.targets.state import (
    AppDirectory,
    acquire,
    is_alive,
    is_held,
    read_json,
    signal_group,
    wait_until_free,
    write_json,
)

HTTP_TIMEOUT = 5.0
ORPHAN_TIMEOUT = 30.0
"""Seconds that a driver without supervisor gets to finish its batch, before a new one starts."""
FORCE_TIMEOUT = 10.0
"""Seconds between SIGTERM and SIGKILL, and again until the end is taken for failed."""
START_TIMEOUT = 30.0
"""Seconds for a supervisor to say that it lives."""
START_PATIENCE = 0.5
"""Seconds to wait for a lock that another starter or a dying process may hold for an instant."""


class EmbeddedTarget:
    """Runs everything on this machine; state is below MILLRACE_HOME/apps."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._apps = settings.require_home() / "apps"

    # Applications

    def start_application(self, manifest: Path, owner: str, arguments: Sequence[str] = ()) -> ApplicationStatus:
        """Start the application of a manifest with a local spark-submit; see `Target`."""
        settings = self._settings
        application = load_manifest(manifest)
        require_java(os.environ)
        if settings.spark_jars is not None and not any(settings.spark_jars.glob("*.jar")):
            raise MillraceError(f"There are no jars in {settings.spark_jars} (MILLRACE_SPARK_JARS): run `make setup`.")
        command = submit_command(application, settings.root, settings.spark_jars, arguments)
        environment = child_environment(os.environ, settings.root)
        environment |= {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
        environment |= {"SPARK_LOCAL_IP": "127.0.0.1"}
        own = driver_environment(application, os.environ, settings.root)
        if "PYTHONPATH" in own:  # Added, because the repository's root must stay on it.
            own["PYTHONPATH"] = os.pathsep.join((own["PYTHONPATH"], environment["PYTHONPATH"]))
        environment |= own
        self._start(
            Spec(
                kind="application",
                name=application.name,
                owner=owner,
                command=command,
                environment=environment,
                policy=application.restart.type,
                retries=application.restart.retries,
                interval=application.restart.interval,
            )
        )
        return self.application_status(application.name)

    def application_status(self, name: str) -> ApplicationStatus:
        """Return what status.json and the lock say of an application; see `Target`."""
        status = self._read(name)
        return ApplicationStatus(
            name=name,
            state=ApplicationState(status.get("state", "")),
            owner=status.get("owner"),
            tries=status.get("tries", 0),
            message=status.get("message", ""),
            metrics_url=status.get("metrics_url"),
            started_at=timestamp(status.get("started_at")),
            log=status.get("log"),
        )

    def progress(self, name: str, last: int | None = None) -> dict[str, Any]:
        """Return the driver's `/progress`; see `Target`. Raises MillraceError while no driver answers."""
        base = self.application_status(name).metrics_url
        if base is None:
            raise MillraceError(f"{name} has no running driver, so it reports no progress: see its log.")
        address = f"{base}/progress" + (f"?last={last}" if last else "")
        try:
            with urllib.request.urlopen(address, timeout=HTTP_TIMEOUT) as response:  # noqa: S310 - our own http:
                return json.load(response)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise MillraceError(f"The driver of {name} does not answer at {address} ({error}): see its log.") from error

    def stop_application(self, name: str, timeout: float, owner: str | None = None) -> ApplicationStatus:
        """Stop an application by its control file, then by force; see `Target`."""
        if self._asks_to_stop(name, owner):
            stop_file = storage.stop_file(name, self._settings)
            stop_file.parent.mkdir(parents=True, exist_ok=True)
            stop_file.touch()
            self._end(name, timeout)
        return self.application_status(name)

    def driver_log(self, name: str, offset: int = 0) -> tuple[str, int]:
        """Return what the drivers wrote since `offset`, all tries as one text; see `Target`."""
        pieces, start = [], 0
        for log in self._directory(name).logs():
            size = log.stat().st_size
            if offset < start + size:
                with log.open("rb") as file:
                    file.seek(max(0, offset - start))
                    pieces.append(file.read(start + size - max(offset, start)))
            start += size
        return b"".join(pieces).decode(errors="replace"), max(offset, start)

    # Jobs

    def start_job(self, job: JobSpec, owner: str) -> JobStatus:
        """Start a Python module as a job; see `Target`."""
        command = [sys.executable, "-m", job.module, *job.arguments]
        if job.status_file_argument:
            command += [job.status_file_argument, str(self._directory(job.name).result)]
        environment = {**child_environment(os.environ, self._settings.root), **job.env}
        self._start(Spec(kind="job", name=job.name, owner=owner, command=command, environment=environment))
        return self.job_status(job.name)

    def job_status(self, name: str) -> JobStatus:
        """Return what status.json, the lock and the job's own status file say; see `Target`."""
        status = self._read(name)
        state = status.get("state", "")
        return JobStatus(
            name=name,
            state=JobState.RUNNING if state in ("SUBMITTED", "PENDING_RERUN") else JobState(state),
            owner=status.get("owner"),
            tries=status.get("tries", 0),
            message=status.get("message", ""),
            started_at=timestamp(status.get("started_at")),
            result=read_json(self._directory(name).result),
            log=status.get("log"),
        )

    def stop_job(self, name: str, timeout: float, owner: str | None = None) -> JobStatus:
        """End a job by signals; see `Target`."""
        if self._asks_to_stop(name, owner):
            signal_group(self._directory(name).read_status().get("driver"), signal.SIGTERM)
            self._end(name, timeout)
        return self.job_status(name)

    def job_log(self, name: str, offset: int = 0) -> tuple[str, int]:
        """Return what the job wrote since `offset`; see `Target`."""
        return self.driver_log(name, offset)

    # What both have in common

    def _directory(self, name: str) -> AppDirectory:
        return AppDirectory(self._apps / name)

    def _read(self, name: str) -> dict[str, Any]:
        """Return status.json, corrected where its writer was killed before it could say how it ended."""
        directory = self._directory(name)
        held = is_held(directory.lock)  # Asked first: whoever ends writes his last status before he lets go.
        status = directory.read_status()
        if status.get("state") not in ("SUBMITTED", "RUNNING", "PENDING_RERUN"):
            return status
        if not held:
            message = "the supervisor and the driver were killed; starting it again continues from its checkpoint"
            return status | {"state": "FAILED", "message": message, "metrics_url": None}
        if not is_alive(status.get("runner")) and status["state"] == "RUNNING":
            return status | {"message": "the supervisor was killed; the driver still runs, but nobody will restart it"}
        return status

    def _start(self, spec: Spec) -> None:
        directory = self._directory(spec.name)
        try:
            directory.path.mkdir(parents=True, exist_ok=True)
            lock = self._claim(directory, spec.owner)
            if lock is None:
                return
            try:
                self._spawn(directory, spec, lock)
            finally:
                os.close(lock)  # The supervisor has its own copy.
        except OSError as error:
            reason = error.strerror or error
            raise MillraceError(
                f"Cannot start {spec.name} in {directory.path}: {reason}; check that disk and its rights."
            ) from error

    def _claim(self, directory: AppDirectory, owner: str) -> int | None:
        """Take the lock to start something, or return None if this owner's supervisor already runs."""
        name = directory.path.name
        for _ in range(2):
            lock = acquire(directory.lock, START_PATIENCE)
            if lock is not None:
                return lock
            status = directory.read_status()
            if status.get("owner") != owner:
                raise OwnedByAnotherError(
                    f"{name} is already run by {status.get('owner')}: wait for that run to end, or stop it first."
                )
            if is_alive(status.get("runner")) and not directory.stop.exists():
                return None
            # Either a driver without supervisor, or one that was asked to stop: let it end, then start anew.
            if status.get("kind") == "application":
                self.stop_application(name, ORPHAN_TIMEOUT, owner)
            else:
                self.stop_job(name, ORPHAN_TIMEOUT, owner)
        raise MillraceError(f"{name} is being started or stopped by somebody else at this moment: try again.")

    def _spawn(self, directory: AppDirectory, spec: Spec, lock: int) -> None:
        previous = directory.read_status()
        if previous.get("owner") == spec.owner:
            spec = replace(spec, first_try=previous.get("tries", 0) + 1)
        else:
            for log in directory.logs():
                log.unlink()
            directory.result.unlink(missing_ok=True)
        directory.stop.unlink(missing_ok=True)
        if spec.kind == "application":
            storage.stop_file(spec.name, self._settings).unlink(missing_ok=True)
        # The environment may hold passwords.
        write_json(directory.spec, asdict(spec), mode=0o600)
        # From here on nobody may take the last status of an earlier run for this one's.
        submitted = {"state": "SUBMITTED", "tries": spec.first_try - 1}
        write_json(directory.status, {"kind": spec.kind, "name": spec.name, "owner": spec.owner, **submitted})
        with (directory.path / "supervisor.log").open("ab") as output:
            runner = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "millrace.targets.runner",
                    str(directory.path),
                    "--lock-fd",
                    str(lock),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=child_environment(os.environ, self._settings.root),
                pass_fds=(lock,),
                start_new_session=True,
            )
        await_supervisor(directory, runner)

    def _asks_to_stop(self, name: str, owner: str | None) -> bool:
        """Leave the stop file that keeps the supervisor from restarting; return False if nothing runs."""
        directory = self._directory(name)
        if not is_held(directory.lock):
            return False
        other = directory.read_status().get("owner")
        if owner is not None and other != owner:
            raise OwnedByAnotherError(f"{name} belongs to {other}, so it was left running: stop that run instead.")
        directory.stop.touch()
        return True

    def _end(self, name: str, timeout: float) -> None:
        """Wait for the end of supervisor and driver; after `timeout` seconds, force it and say so in the
        status.
        """
        directory = self._directory(name)
        if wait_until_free(directory.lock, timeout):
            return
        message = f"did not stop within {timeout:g} s, so it was ended by force; its last batch will be done again"
        for number in (signal.SIGTERM, signal.SIGKILL):
            write_json(directory.stop, {"force": f"{message} ({number.name})"})
            status = directory.read_status()
            signal_group(status.get("driver"), number)
            if wait_until_free(directory.lock, FORCE_TIMEOUT):
                break
        else:
            raise MillraceError(f"{name} does not end, not even by SIGKILL: see {directory.path} and its processes.")
        status = directory.read_status()
        if status.get("state") in (
            "SUBMITTED",
            "RUNNING",
            "PENDING_RERUN",
        ):  # Its supervisor had been killed before.
            write_json(directory.status, status | {"state": "FAILED", "message": message, "metrics_url": None})


def await_supervisor(directory: AppDirectory, runner: "subprocess.Popen[bytes]") -> None:
    """Return when the supervisor has written its first status. Raises MillraceError if it never does."""
    deadline = time.monotonic() + START_TIMEOUT
    while runner.poll() is None and time.monotonic() < deadline:
        if directory.read_status().get("runner"):
            return
        time.sleep(0.05)
    if not directory.read_status().get("runner"):
        log = directory.path / "supervisor.log"
        raise MillraceError(f"The supervisor of {directory.path.name} did not start: see {log}.")


def child_environment(environ: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return the environment for a child: without Airflow's own variables (keys, tokens), with our
    PYTHONPATH.
    """
    result = {key: value for key, value in environ.items() if "AIRFLOW" not in key.upper()}
    result["PYTHONPATH"] = os.pathsep.join(str(path) for path in (root, root / "dags", root / "spark-apps"))
    result["PYTHONUNBUFFERED"] = "1"
    return result


def require_java(environ: Mapping[str, str]) -> None:
    """Raise MillraceError if there is no `java` to run Spark with: in JAVA_HOME if that is set, else on
    the PATH.
    """
    home = environ.get("JAVA_HOME")
    if home and not os.access(Path(home) / "bin" / "java", os.X_OK):
        raise MillraceError(f"JAVA_HOME is {home}, where there is no bin/java: correct it, or unset it.")
    if not home and shutil.which("java", path=environ.get("PATH")) is None:
        raise MillraceError("There is no java for Spark: run `make setup`, or install Java 17 and set JAVA_HOME.")


def timestamp(text: str | None) -> datetime | None:
    """Return the time that a status file names, if it names one."""
    return datetime.fromisoformat(text) if text else None
