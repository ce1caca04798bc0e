"""What every target offers, and the values that it takes and returns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class ApplicationState(StrEnum):
    """States of a Spark application, by the Spark operator's names (`applicationState.state`)."""

    NEW = ""
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SUBMISSION_FAILED = "SUBMISSION_FAILED"
    PENDING_RERUN = "PENDING_RERUN"
    INVALIDATING = "INVALIDATING"
    SUCCEEDING = "SUCCEEDING"
    FAILING = "FAILING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    RESUMING = "RESUMING"
    UNKNOWN = "UNKNOWN"

    @property
    def ended(self) -> bool:
        """True if nothing runs and nothing will run unless somebody starts it."""
        return self in (
            ApplicationState.NEW,
            ApplicationState.COMPLETED,
            ApplicationState.FAILED,
            ApplicationState.SUSPENDED,
        )


class JobState(StrEnum):
    """States of a job (a program that runs to its end)."""

    NEW = ""
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    @property
    def ended(self) -> bool:
        """True if the job doesn't run."""
        return self is not JobState.RUNNING


@dataclass(frozen=True)
class ApplicationStatus:
    """What a target knows of a Spark application."""

    name: str
    state: ApplicationState
    owner: str | None = None
    """Who started it: `<dag id>/<run id>`."""
    tries: int = 0
    """Drivers started so far for this owner, failed submissions too; above 1 after a restart."""
    message: str = ""
    metrics_url: str | None = None
    """Base URL of the driver's HTTP endpoint, while there is one."""
    started_at: datetime | None = None
    log: str | None = None
    """Where a person finds the newest driver's log."""


@dataclass(frozen=True)
class JobSpec:
    """A Python module to run to its end, as `python -m <module> <arguments>`."""

    name: str
    module: str
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    status_file_argument: str | None = None
    """If the module can write its progress as JSON: the option that takes the file's path.

    The target appends it with a path of its own, and returns what the file holds as `JobStatus.result`.
    """
    metrics_port_argument: str | None = None
    """If the module can serve Prometheus metrics: the option that takes the port. Used where something scrapes it."""


@dataclass(frozen=True)
class JobStatus:
    """What a target knows of a job."""

    name: str
    state: JobState
    owner: str | None = None
    tries: int = 0
    message: str = ""
    started_at: datetime | None = None
    result: dict[str, Any] | None = None
    """What the job last wrote to its status file, if it has one."""
    log: str | None = None


class Target(Protocol):
    """Runs Spark applications and jobs. Every method may block for a second; none is a coroutine.

    Every method raises MillraceError, in one sentence, for what it can't do.
    """

    def start_application(
        self, manifest: Path, owner: str, arguments: Sequence[str] = (), labels: Mapping[str, str] | None = None
    ) -> ApplicationStatus:
        """Start what a SparkApplication manifest describes, with `arguments` added to its own.

        If `owner` already runs it, nothing is started and its status is returned. If another owner runs it,
        OwnedByAnotherError is raised. `labels` say which task asked for it (`dag-id`, `run-id`, `task-id`,
        `try-number`); a target shows them where it can.
        """
        ...

    def application_status(self, name: str) -> ApplicationStatus:
        """Return the status of an application; its state is NEW if it was never started."""
        ...

    def progress(self, name: str, last: int | None = None) -> dict[str, Any]:
        """Return the driver's `/progress` document; of each query only the `last` newest batches, if given."""
        ...

    def stop_application(self, name: str, timeout: float, owner: str | None = None) -> ApplicationStatus:
        """Ask the application to finish its batch and end; after `timeout` seconds use force, and say so.

        Does nothing if it doesn't run. With `owner`, an application of another owner is left alone and
        OwnedByAnotherError is raised.
        """
        ...

    def driver_log(self, name: str, offset: int = 0) -> tuple[str, int]:
        """Return what the drivers of this owner wrote since byte `offset`, and the next offset."""
        ...

    def start_job(self, job: JobSpec, owner: str, labels: Mapping[str, str] | None = None) -> JobStatus:
        """Start a job, also one that has ended. Owners and labels are as in `start_application`."""
        ...

    def job_status(self, name: str) -> JobStatus:
        """Return the status of a job; its state is NEW if it was never started."""
        ...

    def stop_job(self, name: str, timeout: float, owner: str | None = None) -> JobStatus:
        """End a job: SIGTERM, and after `timeout` seconds SIGKILL. Does nothing if it doesn't run."""
        ...

    def job_log(self, name: str, offset: int = 0) -> tuple[str, int]:
        """Return what the job wrote since byte `offset`, and the next offset."""
        ...
