"""What becomes of a SparkApplication next: pure functions of the object, its pods and the time.

The states, and what leads from one to another, are those of spark-operator 2.5.2; nothing is remembered between two
steps but what stands in the object's status.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.cluster.standins.spark_operator import pods
from tests.cluster.standins.spark_operator.names import (
    EXECUTOR_NUMBER,
    SPARK_APPLICATION_ID,
    PodState,
    State,
    driver_pod,
)
from tests.cluster.standins.spark_operator.restarts import (
    is_tried_again,
    seconds_to_live,
    seconds_to_next_try,
    state_of,
    written,
)

MOST_EXECUTORS = 1000
"""Executors with a higher number are not noted in the status."""
_AS_APPLICATION = {
    PodState.PENDING: State.SUBMITTED,
    PodState.RUNNING: State.RUNNING,
    PodState.COMPLETED: State.SUCCEEDING,
    PodState.FAILED: State.FAILING,
    PodState.UNKNOWN: State.UNKNOWN,
}
_MISSING_EXECUTOR = {State.RUNNING: PodState.UNKNOWN, State.COMPLETED: PodState.COMPLETED}
"""What an executor is called whose pod is gone before it was seen to end, by the application's state; else failed."""


@dataclass(frozen=True)
class Seen:
    """One look at what belongs to an application."""

    driver: Mapping[str, Any] | None = None
    executors: Sequence[Mapping[str, Any]] = ()
    service: bool = False
    """Whether the UI's Service that the status names is there."""

    @property
    def clear(self) -> bool:
        """True if nothing is left that a new submission could meet."""
        return self.driver is None and not self.service


@dataclass(frozen=True)
class Event:
    """What is to be recorded as a Kubernetes event of the application."""

    reason: str
    message: str
    warning: bool = False


@dataclass
class Step:
    """What is to be done with an application: first the acts, then its new status is written, then events."""

    status: dict[str, Any]
    delete: bool = False
    """Delete driver and UI; it is not waited for."""
    submit: bool = False
    serve_ui: bool = False
    remove: bool = False
    """Delete the application itself: it has outlived its time."""
    look_again: float | None = None
    """After so many seconds, if nothing happens before."""
    not_yet: str = ""
    """Why nothing can be said now; look again soon, and write no status."""
    events: list[Event] = field(default_factory=list)


def next_step(app: Mapping[str, Any], seen: Seen, time: datetime, driver_patience: float = 10.0) -> Step:
    """Return what to do with an application that has all defaults and isn't being deleted.

    `driver_patience` is for how many seconds after a submission the driver's pod may be missing.
    """
    step = Step(_complete(app))
    state = state_of(app)
    if app["spec"].get("suspend") and state not in (
        State.COMPLETED,
        State.FAILED,
        State.SUSPENDED,
        State.SUSPENDING,
    ):
        step.status["applicationState"]["state"] = State.SUSPENDING.value
        return step
    match state:
        case State.NEW:
            step.submit = True
        case State.SUBMITTED | State.RUNNING | State.UNKNOWN:
            _follow(app, step, seen, time, driver_patience)
            step.serve_ui = state is State.SUBMITTED
        case State.COMPLETED | State.FAILED:
            _ended(app, step, seen, time)
        case _:
            _BETWEEN[state](app, step, seen, time)
    return step


def submission_begins(app: Mapping[str, Any], identity: str, time: datetime) -> dict[str, Any]:
    """Return the status with which an application is submitted; it is written only once that has ended."""
    status = _complete(app)
    status["submissionID"] = identity
    status["driverInfo"]["podName"] = driver_pod(app)
    status["lastSubmissionAttemptTime"] = written(time)
    status["submissionAttempts"] = (status.get("submissionAttempts") or 0) + 1
    return status


def submission_ends(app: Mapping[str, Any], status: Mapping[str, Any], error: str) -> Step:
    """Return what follows a submission: `error` is why it failed, or empty."""
    step = Step(copy.deepcopy(dict(status)))
    name = app["metadata"]["name"]
    if error:
        step.status["applicationState"] = {"state": State.SUBMISSION_FAILED.value, "errorMessage": error}
        message = f"failed to submit SparkApplication {name}: {error}"
        step.events.append(Event("SparkApplicationSubmissionFailed", message, warning=True))
    else:
        step.status["applicationState"] = {"state": State.SUBMITTED.value}
        step.status["executionAttempts"] = (status.get("executionAttempts") or 0) + 1
        step.events.append(Event("SparkApplicationSubmitted", f"SparkApplication {name} was submitted successfully"))
    return step


def restarts_with_new_spec(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a change of the object ends what runs, and starts it anew as the object now says."""
    free = ("suspend", "timeToLiveSeconds")
    before, after = ({key: value for key, value in each["spec"].items() if key not in free} for each in (old, new))
    return before != after


def _complete(app: Mapping[str, Any]) -> dict[str, Any]:
    status = copy.deepcopy(dict(app.get("status") or {}))
    status["applicationState"] = dict(status.get("applicationState") or {"state": ""})
    status["driverInfo"] = dict(status.get("driverInfo") or {})
    status.setdefault("lastSubmissionAttemptTime", None)
    status.setdefault("terminationTime", None)
    return status


# What runs


def _follow(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime, patience: float) -> None:
    """The driver's pod decides."""
    status, state = step.status, state_of(app)
    if seen.driver is None:
        last = status["lastSubmissionAttemptTime"]
        since = (time - datetime.fromisoformat(last)).total_seconds() if last else patience + 1
        if state is State.SUBMITTED and since <= patience:
            step.not_yet = f"driver pod not found, {since:.0f} s after the submission"
            return
        status["applicationState"] = {"state": State.FAILING.value, "errorMessage": "driver pod not found"}
        status["terminationTime"] = written(time)
    else:
        _follow_driver(step, seen.driver, state, time)
    _follow_executors(app, step, seen.executors)


def _follow_driver(step: Step, pod: Mapping[str, Any], state: State, time: datetime) -> None:
    status, name, driver = step.status, pod["metadata"]["name"], pods.driver_state(pod)
    status["sparkApplicationId"] = (pod["metadata"].get("labels") or {}).get(SPARK_APPLICATION_ID, "")
    if driver.ended and not status["terminationTime"]:
        status["terminationTime"] = written(time)
    if driver is PodState.FAILED:
        ended = pods.driver_termination(pod)
        if ended is None:
            status["applicationState"]["errorMessage"] = "driver container status missing"
        elif ended.get("exitCode"):
            status["applicationState"]["errorMessage"] = (
                f"driver container failed with ExitCode: {ended['exitCode']}, Reason: {ended.get('reason') or ''}"
            )
    new = _AS_APPLICATION[driver]
    if new is not state:
        status["applicationState"]["state"] = new.value
        step.events.append(_pod_event("Driver", driver, name))


def _follow_executors(app: Mapping[str, Any], step: Step, executors: Sequence[Mapping[str, Any]]) -> None:
    status = step.status
    known: dict[str, str] = dict(status.get("executorState") or {})
    there: dict[str, str] = {}
    for pod in executors:
        name, labels = pod["metadata"]["name"], pod["metadata"].get("labels") or {}
        number = labels.get(EXECUTOR_NUMBER, "")
        if number.isdigit() and int(number) > MOST_EXECUTORS:
            continue
        state = pods.executor_state(pod)
        if known.get(name) != state:
            step.events.append(_executor_event(pod, state))
        # Since Spark 2.4 a driver's label can differ from its executors', which have the one that Spark itself uses.
        if not there and labels.get(SPARK_APPLICATION_ID):
            status["sparkApplicationId"] = labels[SPARK_APPLICATION_ID]
        there[name] = state.value
    application = State(status["applicationState"]["state"])
    for name, last in known.items():
        if name not in there and not PodState(last).ended:
            known[name] = _MISSING_EXECUTOR.get(application, PodState.FAILED).value
    known.update(there)
    if known:
        status["executorState"] = known


def _pod_event(role: str, state: PodState, name: str, how: str = "") -> Event:
    says = {
        PodState.PENDING: f"{role} {name} is pending",
        PodState.RUNNING: f"{role} {name} is running",
        PodState.COMPLETED: f"{role} {name} completed",
        PodState.FAILED: f"{role} {name} failed{how}",
        PodState.UNKNOWN: f"{role} {name} in unknown state",
    }
    return Event(f"Spark{role}{state.capitalize()}", says[state], state in (PodState.FAILED, PodState.UNKNOWN))


def _executor_event(pod: Mapping[str, Any], state: PodState) -> Event:
    how = ""
    if state is PodState.FAILED:
        ended = pods.executor_termination(pod) or {"exitCode": -1, "reason": "Unknown (Container not Found)"}
        said = (pod.get("status") or {}).get("message") or ""
        how = f" with ExitCode: {ended['exitCode']}, Reason: {ended.get('reason') or ''}, Pod Message: {said}"
    return _pod_event("Executor", state, pod["metadata"]["name"], how)


def _ended(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    left = seconds_to_live(app, time)
    if left is not None and left < 0:
        step.remove = True
        return
    _follow_executors(app, step, seen.executors)
    step.look_again = left


# Between two runs


def _submission_failed(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    if not is_tried_again(app):
        step.status["applicationState"]["state"] = State.FAILED.value
        step.status["terminationTime"] = written(time)
        said = step.status["applicationState"].get("errorMessage") or ""
        message = f"SparkApplication {app['metadata']['name']} failed: {said}"
        step.events.append(Event("SparkApplicationFailed", message, warning=True))
    elif (wait := seconds_to_next_try(app, time)) > 0:
        step.look_again = wait
    elif seen.clear:
        step.submit = True
    else:
        step.delete = True
        step.not_yet = "something of the last submission is still there"


def _pending_rerun(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    # While something is left, its end is what this is woken up by.
    if seen.clear:
        name = app["metadata"]["name"]
        message = f"SparkApplication {name} is pending rerun"
        step.events.append(Event("SparkApplicationPendingRerun", message, warning=True))
        step.submit = True


def _invalidating(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    step.delete = True
    for counted in ("submissionAttempts", "executionAttempts"):
        step.status.pop(counted, None)
    step.status["lastSubmissionAttemptTime"] = None
    _forget_the_run(step.status, State.PENDING_RERUN)


def _succeeding(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    if is_tried_again(app):
        step.delete = True
        _forget_the_run(step.status, State.PENDING_RERUN)
    else:
        step.status["applicationState"]["state"] = State.COMPLETED.value


def _failing(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    if not is_tried_again(app):
        step.status["applicationState"]["state"] = State.FAILED.value
    elif (wait := seconds_to_next_try(app, time)) > 0:
        step.look_again = wait
    else:
        step.delete = True
        _forget_the_run(step.status, State.PENDING_RERUN)


def _suspending(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    step.delete = True
    name = app["metadata"]["name"]
    step.events.append(Event("SparkApplicationSuspending", f"SparkApplication {name} is suspending", warning=True))
    _forget_the_run(step.status, State.SUSPENDED, keep_time=True)


def _suspended(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    if not seen.clear:
        return
    name = app["metadata"]["name"]
    step.events.append(Event("SparkApplicationSuspended", f"SparkApplication {name} is suspended", warning=True))
    new = State.SUSPENDED if app["spec"].get("suspend") else State.RESUMING
    _forget_the_run(step.status, new, keep_time=True)


def _resuming(app: Mapping[str, Any], step: Step, seen: Seen, time: datetime) -> None:
    name = app["metadata"]["name"]
    step.events.append(Event("SparkApplicationResuming", f"SparkApplication {name} is resuming", warning=True))
    step.submit = True


def _forget_the_run(status: dict[str, Any], state: State, *, keep_time: bool = False) -> None:
    """A new run begins with a clean status; only what is counted stays, and by which submission's pods it is woken."""
    status.pop("sparkApplicationId", None)
    status.pop("executorState", None)
    status["driverInfo"] = {}
    status["applicationState"] = {"state": state.value}
    if not keep_time:
        status["terminationTime"] = None


_BETWEEN: dict[State, Callable[[Mapping[str, Any], Step, Seen, datetime], None]] = {
    State.SUBMISSION_FAILED: _submission_failed,
    State.PENDING_RERUN: _pending_rerun,
    State.INVALIDATING: _invalidating,
    State.SUCCEEDING: _succeeding,
    State.FAILING: _failing,
    State.SUSPENDING: _suspending,
    State.SUSPENDED: _suspended,
    State.RESUMING: _resuming,
}
