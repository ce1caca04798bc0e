"""The target `embedded`: applications by a local spark-submit, jobs by a local Python, each under a
supervisor.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from millrace import storage
from millrace.config import Settings
from millrace.errors import MillraceError
from millrace.targets.base import ApplicationState, ApplicationStatus, JobSpec, JobState, JobStatus
from millrace.targets.endpoint import driver_progress
from millrace.targets.manifest import driver_environment, load_manifest, submit_command
from millrace.targets.names import RUN_VARIABLE
from millrace.targets.runner import Spec
from millrace.targets.state import AppDirectory, read_json, signal_group
from millrace.targets.supervision import (
    ask_to_stop,
    child_environment,
    current_status,
    end,
    require_java,
    start,
)

ORPHAN_TIMEOUT = 30.0
"""Seconds that a driver without supervisor gets to finish its batch, before a new one starts."""


class EmbeddedTarget:
    """Runs everything on this machine; state is below MILLRACE_HOME/apps."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._apps = settings.require_home() / "apps"

    # Applications

    def start_application(
        self, manifest: Path, owner: str, arguments: Sequence[str] = (), labels: Mapping[str, str] | None = None
    ) -> ApplicationStatus:
        """Start the application of a manifest with a local spark-submit; see `Target`."""
        settings = self._settings
        application = load_manifest(manifest)
        require_java(os.environ)
        if settings.spark_jars is not None and not any(settings.spark_jars.glob("*.jar")):
            raise MillraceError(f"There are no jars in {settings.spark_jars} (MILLRACE_SPARK_JARS): run `make setup`.")
        command = submit_command(application, settings.root, settings.spark_jars, arguments)
        environment = child_environment(os.environ, settings.root)
        environment |= {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
        environment |= {"SPARK_LOCAL_IP": "127.0.0.1", RUN_VARIABLE: owner}
        own = driver_environment(application, os.environ, settings.root)
        if "PYTHONPATH" in own:  # Added, because the repository's root must stay on it.
            own["PYTHONPATH"] = os.pathsep.join((own["PYTHONPATH"], environment["PYTHONPATH"]))
        environment |= own
        spec = Spec(
            kind="application",
            name=application.name,
            owner=owner,
            command=command,
            environment=environment,
            policy=application.restart.type,
            retries=application.restart.retries,
            interval=application.restart.interval,
            labels=dict(labels or {}),
        )

        def stop_orphan() -> None:
            self.stop_application(application.name, ORPHAN_TIMEOUT, owner)

        def forget_last_stop() -> None:
            storage.stop_file(application.name, settings).unlink(missing_ok=True)

        directory = self._directory(application.name)
        start(directory, spec, settings.root, stop_orphan=stop_orphan, prepare=forget_last_stop)
        return self.application_status(application.name)

    def application_status(self, name: str) -> ApplicationStatus:
        """Return what status.json and the lock say of an application; see `Target`."""
        status = current_status(self._directory(name))
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
        return driver_progress(name, self.application_status(name).metrics_url, last)

    def stop_application(self, name: str, timeout: float, owner: str | None = None) -> ApplicationStatus:
        """Stop an application by its control file, then by force; see `Target`."""
        directory = self._directory(name)
        if ask_to_stop(directory, owner):
            stop_file = storage.stop_file(name, self._settings)
            stop_file.parent.mkdir(parents=True, exist_ok=True)
            stop_file.touch()
            end(directory, timeout)
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

    def start_job(self, job: JobSpec, owner: str, labels: Mapping[str, str] | None = None) -> JobStatus:
        """Start a Python module as a job; see `Target`."""
        command = [sys.executable, "-m", job.module, *job.arguments]
        if job.status_file_argument:
            command += [job.status_file_argument, str(self._directory(job.name).result)]
        environment = {**child_environment(os.environ, self._settings.root), RUN_VARIABLE: owner, **job.env}
        spec = Spec(
            kind="job",
            name=job.name,
            owner=owner,
            command=command,
            environment=environment,
            labels=dict(labels or {}),
        )

        def stop_orphan() -> None:
            self.stop_job(job.name, ORPHAN_TIMEOUT, owner)

        start(self._directory(job.name), spec, self._settings.root, stop_orphan=stop_orphan)
        return self.job_status(job.name)

    def job_status(self, name: str) -> JobStatus:
        """Return what status.json, the lock and the job's own status file say; see `Target`."""
        status = current_status(self._directory(name))
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
        directory = self._directory(name)
        if ask_to_stop(directory, owner):
            signal_group(directory.read_status().get("driver"), signal.SIGTERM)
            end(directory, timeout)
        return self.job_status(name)

    def job_log(self, name: str, offset: int = 0) -> tuple[str, int]:
        """Return what the job wrote since `offset`; see `Target`."""
        return self.driver_log(name, offset)

    # What both have in common

    def _directory(self, name: str) -> AppDirectory:
        return AppDirectory(self._apps / name)


def timestamp(text: str | None) -> datetime | None:
    """Return the time that a status file names, if it names one."""
    return datetime.fromisoformat(text) if text else None
