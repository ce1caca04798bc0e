"""Whether an application is tried again, and when: by its restart policy and what its status counts."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.cluster.standins.spark_operator.names import State


def now() -> datetime:
    """Return the time, with its zone."""
    return datetime.now(UTC)


def written(time: datetime) -> str:
    """Return a time as the API has it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def state_of(app: Mapping[str, Any]) -> State:
    """Return the application's state; one that upstream doesn't have counts as unknown."""
    text = ((app.get("status") or {}).get("applicationState") or {}).get("state") or ""
    try:
        return State(text)
    except ValueError:
        return State.UNKNOWN


def is_tried_again(app: Mapping[str, Any]) -> bool:
    """Whether an application whose try has just ended gets another one."""
    policy, status = app["spec"]["restartPolicy"], app.get("status") or {}
    always, on_failure = (policy["type"] == each for each in ("Always", "OnFailure"))
    match state_of(app):
        case State.SUCCEEDING:
            return always
        case State.FAILING:
            return always or (on_failure and _below(status.get("executionAttempts"), policy.get("onFailureRetries")))
        case State.SUBMISSION_FAILED:
            retries = policy.get("onSubmissionFailureRetries")
            return always or (on_failure and _below(status.get("submissionAttempts"), retries))
    return False


def _below(done: int | None, retries: int | None) -> bool:
    return retries is not None and (done or 0) <= retries


def seconds_to_next_try(app: Mapping[str, Any], time: datetime) -> float:
    """Return how long the next try has to wait: after n submissions n times the interval, from the last one on."""
    policy, status = app["spec"]["restartPolicy"], app.get("status") or {}
    failed_submission = state_of(app) is State.SUBMISSION_FAILED
    interval = policy["onSubmissionFailureRetryInterval" if failed_submission else "onFailureRetryInterval"]
    last = datetime.fromisoformat(status["lastSubmissionAttemptTime"])
    return (last + timedelta(seconds=interval * status["submissionAttempts"]) - time).total_seconds()


def seconds_to_live(app: Mapping[str, Any], time: datetime) -> float | None:
    """Return when an ended application is to be deleted; None if never."""
    lifetime = app["spec"].get("timeToLiveSeconds")
    ended = (app.get("status") or {}).get("terminationTime")
    if lifetime is None or not ended:
        return None
    return (datetime.fromisoformat(ended) + timedelta(seconds=lifetime) - time).total_seconds()
