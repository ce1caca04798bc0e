"""Operators that start and stop applications and jobs on the target."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from millrace import kafka, storage
from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.operators.base import application_log_tail, job_log_tail, labels_of, one_sentence, owner_of
from millrace.targets import get_target
from millrace.targets.base import ApplicationState, JobSpec, JobState
from millrace.triggers.base import IDLE, SUCCESS
from millrace.triggers.stream import ApplicationReadyTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

BAD = (ApplicationState.FAILED, JobState.FAILED)
KILLED = (
    "This task is killed. If it has started %s, that goes on and belongs to this run: a retry finds it, and the "
    "run's stop task stops it"
)


class StartJobOperator(BaseOperator):
    """Starts a job and ends; the job goes on. A retry finds it running and leaves it so.

    So does it if the task is killed: see `on_kill`.
    """

    template_fields: Sequence[str] = ("arguments",)

    def __init__(self, *, job: JobSpec, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.arguments = list(job.arguments)

    def execute(self, context: "Context") -> dict[str, Any]:
        """Return the job's name, state and log."""
        with one_sentence(self.log):
            job = replace(self.job, arguments=tuple(self.arguments))
            status = get_target().start_job(job, owner_of(context), labels_of(context))
        self.log.info("%s is %s; its log: %s", status.name, status.state, status.log)
        if status.state is JobState.FAILED:
            job_log_tail(self.log, status.name)
            raise AirflowException(f"{status.name} failed at once: {status.message}.")
        return {"name": status.name, "state": str(status.state), "log": status.log}

    def on_kill(self) -> None:
        """Leave the job alone, and say what becomes of it (docs/decisions/0007)."""
        self.log.warning(KILLED, self.job.name)


class StartApplicationOperator(BaseOperator):
    """Starts a Spark application, and ends when it runs and a first micro-batch was reported.

    With `job` and `topic`, a resumed stream that has read all before is sent the job's heartbeats once more, so that it
    has a batch to report; with `job` alone, for a stream without windows, that is enough.

    Waits in the triggerer. A retry finds the application running and goes on waiting. Killing the task does
    not end the application (see `on_kill`): only the pipeline's stop task does, and the failure callback where
    a run was timed out.
    """

    template_fields: Sequence[str] = ("manifest", "arguments")

    def __init__(
        self,
        *,
        manifest: str,
        application: str,
        query: str,
        arguments: Sequence[str] = (),
        job: str | None = None,
        topic: str | None = None,
        startup_timeout: float = 600.0,
        kafka_conn_id: str = kafka.CONNECTION_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.application = application
        self.query = query
        self.arguments = list(arguments)
        self.job = job
        self.topic = topic
        self.startup_timeout = startup_timeout
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: "Context") -> None:
        """Start (or find) the application, then wait in the triggerer."""
        with one_sentence(self.log):
            resumed = storage.exists("checkpoints", self.application)
            status = get_target().start_application(
                Path(self.manifest), owner_of(context), self.arguments, labels_of(context)
            )
        if status.name != self.application:
            raise AirflowFailException(f"{self.manifest} describes {status.name}, not {self.application}.")
        self.log.info("%s is %s; its driver's log: %s", status.name, status.state or "new", status.log)
        deadline = time.time() + self.startup_timeout
        first_try = max(1, status.tries)
        self._wait(owner_of(context), first_try=first_try, resumed=resumed, deadline=deadline, topic=self.topic)

    def on_kill(self) -> None:
        """Leave the application alone, and say what becomes of it (docs/decisions/0007)."""
        self.log.warning(KILLED, self.application)

    def _wait(self, owner: str, **waiting: Any) -> None:
        self.defer(
            trigger=ApplicationReadyTrigger(
                application=self.application, query=self.query, owner=owner, job=self.job, **waiting
            ),
            method_name="on_event",
            kwargs=waiting,
        )

    def on_event(self, context: "Context", event: dict[str, Any], **waiting: Any) -> dict[str, Any]:
        """End the task as the trigger says; if the stream found nothing to do, send heartbeats and wait on."""
        if event["status"] == IDLE and self.topic:
            self.log.info("%s", event["message"])
            with one_sentence(self.log):
                repeat_heartbeats(self.log, self.kafka_conn_id, self.topic, self.job)
            # Now there is something new: a first batch shows that it was read.
            self._wait(owner_of(context), **{**waiting, "topic": None})
        # Idle without a topic: a stream without windows that had read everything before has nothing to wait for.
        if event["status"] not in (SUCCESS, IDLE):
            application_log_tail(self.log, self.application)
            raise AirflowException(event["message"])
        status = get_target().application_status(self.application)
        self.log.info("%s. Its driver's log: %s", event["message"], status.log)
        return {"name": status.name, "tries": status.tries, "log": status.log, "metrics_url": status.metrics_url}


class StopPipelineOperator(BaseOperator):
    """Stops a job and an application, and says what it did.

    Made for a teardown that runs whatever happened. The state of a run is that of its last task, so this one
    fails, after everything is stopped, if one of `decisive_tasks` has not succeeded; else a failed run would
    look green.
    """

    def __init__(
        self,
        *,
        application: str,
        job: str,
        decisive_tasks: Sequence[str] = (),
        stop_timeout: float = 120.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application = application
        self.job = job
        self.decisive_tasks = list(decisive_tasks)
        self.stop_timeout = stop_timeout

    def execute(self, context: "Context") -> dict[str, str]:
        """Return what became of the job and of the application."""
        with one_sentence(self.log):
            done = stop_all(self.application, self.job, owner_of(context), self.stop_timeout)
        for name, end in done.items():
            self.log.info("%s: %s", name, end.said)
        self._fail_if_others_failed(context)
        if failure := done[self.application].failure:
            raise AirflowFailException(f"{self.application} did not end well: {failure}.")
        return {name: end.said for name, end in done.items()}

    def _fail_if_others_failed(self, context: "Context") -> None:
        if not self.decisive_tasks:
            return
        run_id = context["run_id"]
        states = context["ti"].get_task_states(
            dag_id=context["dag"].dag_id, task_ids=self.decisive_tasks, run_ids=[run_id]
        )[run_id]
        failed = [f"{task} ({states.get(task)})" for task in self.decisive_tasks if states.get(task) != "success"]
        if failed:
            raise AirflowFailException(
                f"Everything is stopped, but the run has failed because of {', '.join(failed)}: see the "
                "first one's log."
            )


@dataclass(frozen=True)
class End:
    """What became of an application or a job."""

    said: str
    failure: str = ""
    """Why it had to be ended by force, or had failed before: then its last batch isn't finished."""


def stop_all(application: str, job: str | None, owner: str, timeout: float) -> dict[str, End]:
    """Stop a job (None: there is none) and an application of `owner`; return what became of each.

    Another owner's are left running.

    Tries both before it raises MillraceError for one that can't be stopped.
    """
    target, done, problems = get_target(), {}, []
    for name, status_of, stop in (
        (job, target.job_status, target.stop_job),
        (application, target.application_status, target.stop_application),
    ):
        if name is None:
            continue
        try:
            done[name] = _stop(name, status_of, stop, owner, timeout)
        except OwnedByAnotherError as error:
            done[name] = End(str(error))
        except MillraceError as error:
            problems.append(str(error))
    if problems:
        raise MillraceError(" ".join(problems))
    return done


def _stop(name: str, status_of: Callable[..., Any], stop: Callable[..., Any], owner: str, timeout: float) -> End:
    before = status_of(name)
    if before.owner != owner:
        state = before.state or "never started"
        return End(f"nothing to stop: {state}, it belongs to {before.owner or 'nobody'}")
    if before.state.ended:
        said = f": {before.message}" if before.message else ""
        return End(f"nothing to stop: {before.state}{said}", before.message if before.state in BAD else "")
    after = stop(name, timeout, owner)
    return End(f"{after.state}: {after.message}", after.message if after.state in BAD else "")


def repeat_heartbeats(log: Any, kafka_conn_id: str, topic: str | None, job: str | None) -> None:
    """Send each partition of `topic` once more the heartbeat that `job` ended with (`millrace.heartbeat`)."""
    from millrace.heartbeat import send_heartbeats

    if topic is None or job is None:
        raise MillraceError("The stream stands still, and no topic was given to send heartbeats to: see its log.")
    event_time = (get_target().job_status(job).result or {}).get("heartbeat_time")
    if not event_time:
        raise MillraceError(f"The summary of {job} has no heartbeat_time, so its heartbeats can't be repeated.")
    send_heartbeats(kafka.connection_config(kafka_conn_id), topic, event_time)
    log.info("Sent the heartbeat of %s once more to each partition of %s", event_time, topic)
