"""Waits for a stream: until it has begun, and until it has caught up."""

import time
from datetime import timedelta
from typing import Any

from millrace import checkpoints, history
from millrace.errors import MillraceError
from millrace.progress import (
    Goal,
    failed_query,
    find_query,
    last_window_end,
    newest,
    parse_time,
    records_behind,
    shortfall,
)
from millrace.targets import get_target
from millrace.targets.base import ApplicationState, ApplicationStatus, JobState, JobStatus, Target
from millrace.triggers.base import ERROR, IDLE, SUCCESS, PollingTrigger

MAX_FAILED_TRIES = 3
"""Drivers that may end before a first batch, until the start counts as failed."""
IDLE_SECONDS = 20.0
"""How long a stream may stand still, with its input complete, before heartbeats are repeated."""
FIRST_BATCH_SECONDS = 30.0
"""How long a resumed query may take for its first batch, before it is taken for one that has nothing to do."""
POLLED_BATCHES = 10


def application_problem(status: ApplicationStatus, owner: str) -> str:
    """Say why waiting for an application makes no sense, or return an empty string."""
    if status.state is ApplicationState.NEW:
        return f"{status.name} is not there any more: somebody deleted it. Start it again."
    if status.owner != owner:
        return f"{status.name} is run by {status.owner or 'nobody'}, not by this run."
    if status.state.ended:
        return f"{status.name} has ended ({status.state}): {status.message or 'it says no more'}. See its log."
    return ""


def describe(status: ApplicationStatus) -> str:
    """Return an application's state, and what is said about it."""
    return f"{status.state} ({status.message})" if status.message else str(status.state)


def job_problem(job: JobStatus, owner: str) -> str:
    """Say why waiting for a job's records makes no sense, or return an empty string."""
    if job.state is JobState.NEW:
        return f"{job.name} is not there any more: somebody deleted it. Start it again."
    if job.owner != owner or job.state in (JobState.FAILED, JobState.STOPPED):
        message = job.message or f"its state is {job.state or 'new'} and its owner {job.owner}"
        return f"{job.name} does not send any more: {message}. See its log."
    return ""


class ApplicationReadyTrigger(PollingTrigger):
    """Fires when the application runs and its query has reported a first batch.

    `idle`: the driver runs, but the complete input gives it nothing to do. Only a query that has `resumed` from a
    checkpoint can have read everything before. With a `topic` the checkpoint says at once whether it has; without one
    a first batch that does not come for FIRST_BATCH_SECONDS does.
    """

    def __init__(
        self,
        *,
        application: str,
        query: str,
        owner: str,
        first_try: int,
        job: str | None = None,
        topic: str | None = None,
        resumed: bool = False,
        poll_interval: float = 1.0,
        deadline: float | None = None,
    ) -> None:
        super().__init__(poll_interval=poll_interval, deadline=deadline)
        self.application = application
        self.query = query
        self.owner = owner
        self.first_try = first_try
        self.job = job
        self.topic = topic
        self.resumed = resumed
        self._active_since: float | None = None
        self._seen = ""

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "application": self.application,
            "query": self.query,
            "owner": self.owner,
            "first_try": self.first_try,
            "job": self.job,
            "topic": self.topic,
            "resumed": self.resumed,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
        }

    def waiting_for(self) -> str:
        """Say what is missing."""
        return f"{self.application} has not reported a first batch of {self.query}{self._seen}; see its driver's log"

    def poll(self) -> dict[str, Any] | None:
        """Look at the state, then at the query."""
        target = get_target()
        status = target.application_status(self.application)
        self._seen = f" and is {describe(status)}"
        if problem := application_problem(status, self.owner):
            return {"status": ERROR, "message": problem}
        if status.tries - self.first_try >= MAX_FAILED_TRIES:
            times = f"failed {MAX_FAILED_TRIES} times before its first batch"
            return {"status": ERROR, "message": f"{self.application} {times}: {status.message}."}
        document = driver_progress(target, status)
        if document is None:
            return None
        query = find_query(document, self.query)
        if newest(query):
            return {"status": SUCCESS, "message": f"{self.application} runs and has finished a first batch"}
        if query and query.get("active") and self.resumed and self.job:
            self._active_since = self._active_since or time.monotonic()
            waited = time.monotonic() - self._active_since >= FIRST_BATCH_SECONDS
            if (waited or self.topic) and self._nothing_new(target.job_status(self.job), waited):
                return {"status": IDLE, "message": f"{self.query} runs, but finds nothing new to read"}
        return None

    def _nothing_new(self, job: JobStatus, waited: bool) -> bool:
        """Whether the job sends no more, and the batches that were finished before hold all of it; or so it seems."""
        if job.state is not JobState.SUCCEEDED:
            return False
        if waited or not self.topic:
            return waited
        goal = goal_of(job, self.topic, self.query, None, None)
        return not checkpoints.shortfall(self.application, self.query, self.topic, goal.end_offsets)


class CaughtUpTrigger(PollingTrigger):
    """Fires when a job has ended well and the stream has read all that it sent and closed every window.

    Without `window_seconds` and `slide_seconds` the stream has no windows, and reading all is enough. Then the
    checkpoint is asked where a driver has nothing to report, because it was restarted after its last batch.

    `idle`: all is read, but the watermark stands still. That is so after a restart of the driver, because
    Spark doesn't remember the watermark of each source, and a source that has no new record never reports one
    again.
    """

    def __init__(
        self,
        *,
        application: str,
        query: str,
        owner: str,
        job: str,
        topic: str,
        window_seconds: int | None,
        slide_seconds: int | None,
        run_id: str,
        poll_interval: float = 1.0,
        deadline: float | None = None,
    ) -> None:
        super().__init__(poll_interval=poll_interval, deadline=deadline)
        self.application = application
        self.query = query
        self.owner = owner
        self.job = job
        self.topic = topic
        self.window_seconds = window_seconds
        self.slide_seconds = slide_seconds
        self.run_id = run_id
        self._missing = "nothing was seen yet"
        self._position: tuple[Any, ...] = ()
        self._moved_at = time.monotonic()
        self._recorder = history.Recorder(run_id)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "application": self.application,
            "query": self.query,
            "owner": self.owner,
            "job": self.job,
            "topic": self.topic,
            "window_seconds": self.window_seconds,
            "slide_seconds": self.slide_seconds,
            "run_id": self.run_id,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
        }

    def waiting_for(self) -> str:
        """Say what is missing."""
        return self._missing

    def poll(self) -> dict[str, Any] | None:
        """Look at the job, at the application, then at the queries."""
        target = get_target()
        job, status = target.job_status(self.job), target.application_status(self.application)
        if problem := job_problem(job, self.owner) or application_problem(status, self.owner):
            return {"status": ERROR, "message": problem}
        document = driver_progress(target, status, POLLED_BATCHES)
        if document is None:
            self._missing = f"{self.application} is {describe(status)}, its driver does not answer"
            return None
        self._recorder.add(document)
        if job.state is not JobState.SUCCEEDED:
            self._missing = f"{self.job} still sends" + (f" ({job.message})" if job.message else "")
            return None
        goal = goal_of(job, self.topic, self.query, self.window_seconds, self.slide_seconds)
        self._missing = shortfall(document, goal)
        if self._missing and goal.watermark is None and not newest(find_query(document, self.query)):
            self._missing = checkpoints.shortfall(self.application, self.query, self.topic, goal.end_offsets)
        if not self._missing:
            self._recorder.save()
            closed = "" if goal.watermark is None else " and every window is closed"
            return {"status": SUCCESS, "message": f"every record is read{closed}"}
        if failure := failed_query(document):
            self._missing = failure
            return None  # The driver ends by itself; the target restarts it, or the next look finds it ended.
        return self._idle(document, goal) if goal.watermark else None

    def _idle(self, document: dict[str, Any], goal: Goal) -> dict[str, Any] | None:
        """Return the event `idle` if nothing has moved for long, and no query is at work on the goal."""
        position = tuple(
            (query.get("runId"), (newest(query) or {}).get("batchId")) for query in document.get("queries", ())
        )
        if position != self._position or any(records_behind(document, goal).values()):
            self._position, self._moved_at = position, time.monotonic()
        if time.monotonic() - self._moved_at >= IDLE_SECONDS:
            return {"status": IDLE, "message": self._missing}
        return None


def goal_of(job: JobStatus, topic: str, query: str, window_seconds: int | None, slide_seconds: int | None) -> Goal:
    """Return where the stream is caught up with what a job that has SUCCEEDED says it sent."""
    window_end = None
    try:
        result = job.result or {}
        offsets = {int(partition): int(offset) for partition, offset in result["end_offsets"].items()}
        if window_seconds and slide_seconds:
            length, slide = timedelta(seconds=window_seconds), timedelta(seconds=slide_seconds)
            window_end = last_window_end(parse_time(result["last_event_time"]), length, slide)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MillraceError(
            f"The summary of {job.name} does not say what it sent ({error!r} in {job.result}): see {job.log}."
        ) from error
    return Goal(topic=topic, end_offsets=offsets, query=query, watermark=window_end)


def driver_progress(target: Target, status: ApplicationStatus, last: int = 1) -> dict[str, Any] | None:
    """Return the driver's progress, or None if it can't answer now: it starts, ends, or waits to rerun."""
    if status.state is not ApplicationState.RUNNING:
        return None
    try:
        return target.progress(status.name, last=last)
    except MillraceError:
        return None
