"""What the stand-in for the Spark operator makes of an application, by upstream's rules."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cluster.standins.spark_operator.defaults import with_defaults
from tests.cluster.standins.spark_operator.states import (
    Seen,
    Step,
    next_step,
    restarts_with_new_spec,
    submission_begins,
    submission_ends,
)

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
SUBMITTED_AT = "2026-01-01T11:59:30Z"
POLICY = {
    "type": "OnFailure",
    "onFailureRetries": 2,
    "onFailureRetryInterval": 10,
    "onSubmissionFailureRetries": 1,
    "onSubmissionFailureRetryInterval": 20,
}


def app(state: str = "", *, spec: Any = None, **status: Any) -> dict[str, Any]:
    """An application in some state, half a minute after its only submission."""
    said: dict[str, Any] = {}
    if state:
        said = {
            "applicationState": {"state": state},
            "driverInfo": {"podName": "app-driver", "webUIServiceName": "app-ui-svc"},
            "submissionID": "first",
            "submissionAttempts": 1,
            "executionAttempts": 1,
            "lastSubmissionAttemptTime": SUBMITTED_AT,
            "terminationTime": None,
        }
    return with_defaults(
        {
            "metadata": {"name": "app", "namespace": "streams", "uid": "1"},
            "spec": {"restartPolicy": POLICY, **(spec or {})},
            **({"status": {**said, **status}} if state else {}),
        }
    )


def pod(phase: str, code: Any = None, reason: str = "", name: str = "app-driver", **labels: Any) -> Any:
    role = "executor" if name != "app-driver" else "driver"
    status: dict[str, Any] = {"phase": phase}
    if code is not None:
        ended = {"terminated": {"exitCode": code, "reason": reason}}
        status["containerStatuses"] = [{"name": f"spark-kubernetes-{role}", "state": ended}]
    return {"metadata": {"name": name, "labels": {"spark-app-selector": "spark-1", **labels}}, "status": status}


def state(step: Step) -> str:
    return step.status["applicationState"]["state"]


def reasons(step: Step) -> list[str]:
    return [event.reason for event in step.events]


def test_a_new_application_is_submitted() -> None:
    step = next_step(app(), Seen(), NOW)
    assert step.submit
    assert not step.delete


def test_a_submission_counts_before_it_is_known_how_it_ends() -> None:
    status = submission_begins(app(), "first", NOW)
    assert status["submissionID"] == "first"
    assert status["submissionAttempts"] == 1
    assert status["lastSubmissionAttemptTime"] == "2026-01-01T12:00:00Z"
    assert status["driverInfo"] == {"podName": "app-driver"}
    assert "executionAttempts" not in status


def test_a_submission_that_succeeds_is_an_execution() -> None:
    step = submission_ends(app(), submission_begins(app(), "first", NOW), "")
    assert step.status["applicationState"] == {"state": "SUBMITTED"}
    assert step.status["executionAttempts"] == 1
    assert reasons(step) == ["SparkApplicationSubmitted"]


def test_a_submission_that_fails_is_none() -> None:
    step = submission_ends(app(), submission_begins(app(), "first", NOW), "no such thing")
    assert step.status["applicationState"] == {"state": "SUBMISSION_FAILED", "errorMessage": "no such thing"}
    assert "executionAttempts" not in step.status
    assert [event.message for event in step.events] == ["failed to submit SparkApplication app: no such thing"]


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (pod("Pending"), "SUBMITTED"),
        (pod("Running"), "RUNNING"),
        (pod("Running", 0), "SUCCEEDING"),
        (pod("Running", 1), "FAILING"),
        (pod("Succeeded", 0), "SUCCEEDING"),
        (pod("Failed", 0), "SUCCEEDING"),
        (pod("Failed", 1), "FAILING"),
        (pod("Failed"), "FAILING"),
        (pod("Unknown"), "UNKNOWN"),
    ],
)
@pytest.mark.parametrize("before", ["SUBMITTED", "RUNNING", "UNKNOWN"])
def test_the_drivers_pod_decides(before: str, driver: Any, expected: str) -> None:
    step = next_step(app(before), Seen(driver), NOW)
    assert state(step) == expected
    assert bool(step.status["terminationTime"]) == (expected in ("SUCCEEDING", "FAILING"))
    assert len(step.events) == (expected != before)
    assert not step.delete
    assert not step.submit
    assert step.serve_ui == (before == "SUBMITTED")


def test_a_driver_that_fails_says_how() -> None:
    step = next_step(app("RUNNING"), Seen(pod("Failed", 137, "OOMKilled")), NOW)
    message = "driver container failed with ExitCode: 137, Reason: OOMKilled"
    assert step.status["applicationState"] == {"state": "FAILING", "errorMessage": message}
    unknown = next_step(app("RUNNING"), Seen(pod("Failed")), NOW)
    assert unknown.status["applicationState"]["errorMessage"] == "driver container status missing"


def test_a_driver_may_be_missing_for_a_moment_after_the_submission() -> None:
    seconds = {"lastSubmissionAttemptTime": "2026-01-01T11:59:55Z"}
    assert next_step(app("SUBMITTED", **seconds), Seen(), NOW).not_yet
    lost = next_step(app("RUNNING", **seconds), Seen(), NOW)
    assert lost.status["applicationState"] == {"state": "FAILING", "errorMessage": "driver pod not found"}


@pytest.mark.parametrize("before", ["SUBMITTED", "RUNNING", "UNKNOWN"])
def test_a_driver_that_is_lost_has_failed(before: str) -> None:
    step = next_step(app(before), Seen(), NOW)
    assert step.status["applicationState"] == {"state": "FAILING", "errorMessage": "driver pod not found"}
    assert step.status["terminationTime"] == "2026-01-01T12:00:00Z"


def test_executors_are_noted() -> None:
    executors = [pod("Running", name="e-1", **{"spark-exec-id": "1"}), pod("Failed", 52, "Error", name="e-2")]
    step = next_step(app("RUNNING", executorState={"e-1": "PENDING"}), Seen(pod("Running"), executors), NOW)
    assert step.status["executorState"] == {"e-1": "RUNNING", "e-2": "FAILED"}
    assert step.status["sparkApplicationId"] == "spark-1"
    assert [event.message for event in step.events] == [
        "Executor e-1 is running",
        "Executor e-2 failed with ExitCode: 52, Reason: Error, Pod Message: ",
    ]


@pytest.mark.parametrize(
    ("before", "driver", "expected"),
    [
        ("RUNNING", pod("Running"), "UNKNOWN"),
        ("COMPLETED", None, "COMPLETED"),
        ("FAILED", None, "FAILED"),
        ("RUNNING", pod("Succeeded", 0), "FAILED"),
    ],
)
def test_executors_that_are_gone_before_they_were_seen_to_end(before: str, driver: Any, expected: str) -> None:
    known = {"e-1": "RUNNING", "e-2": "COMPLETED"}
    step = next_step(app(before, executorState=known), Seen(driver), NOW)
    assert step.status["executorState"] == {"e-1": expected, "e-2": "COMPLETED"}


def test_success_is_the_end_unless_it_is_always_restarted() -> None:
    assert state(next_step(app("SUCCEEDING"), Seen(pod("Succeeded", 0)), NOW)) == "COMPLETED"
    again = next_step(app("SUCCEEDING", spec={"restartPolicy": {"type": "Always"}}), Seen(pod("Succeeded", 0)), NOW)
    assert again.delete
    assert again.status["applicationState"] == {"state": "PENDING_RERUN"}
    assert again.status["driverInfo"] == {}


@pytest.mark.parametrize(
    ("attempts", "seconds_ago", "expected"),
    [(1, 3, None), (1, 11, "PENDING_RERUN"), (2, 11, None), (2, 21, "PENDING_RERUN"), (3, 99, "FAILED")],
)
def test_a_failure_is_tried_again_after_growing_times(attempts: int, seconds_ago: int, expected: str | None) -> None:
    last = (NOW - timedelta(seconds=seconds_ago)).isoformat()
    counts = {"executionAttempts": attempts, "submissionAttempts": attempts, "lastSubmissionAttemptTime": last}
    step = next_step(app("FAILING", **counts), Seen(pod("Failed", 1)), NOW)
    assert state(step) == (expected or "FAILING")
    assert step.look_again == (None if expected else 10 * attempts - seconds_ago)
    assert step.delete == (expected == "PENDING_RERUN")
    assert step.status["executionAttempts"] == attempts
    assert not step.submit


@pytest.mark.parametrize("policy", [{}, {"type": "Never"}, {"type": "OnFailure"}])
def test_a_failure_is_not_tried_again_without_a_number_of_retries(policy: dict[str, Any]) -> None:
    assert state(next_step(app("FAILING", spec={"restartPolicy": policy}), Seen(), NOW)) == "FAILED"


def test_a_failed_submission_is_tried_again() -> None:
    early = next_step(app("SUBMISSION_FAILED", lastSubmissionAttemptTime="2026-01-01T11:59:45Z"), Seen(), NOW)
    assert (early.submit, early.look_again) == (False, 5)
    assert next_step(app("SUBMISSION_FAILED"), Seen(), NOW).submit
    last = next_step(app("SUBMISSION_FAILED", submissionAttempts=2), Seen(), NOW)
    assert state(last) == "FAILED"
    assert last.status["terminationTime"]
    assert reasons(last) == ["SparkApplicationFailed"]


@pytest.mark.parametrize("left", [Seen(pod("Running")), Seen(pod("Failed", 1)), Seen(service=True)])
def test_there_is_no_second_driver_beside_what_is_left_of_a_first(left: Seen) -> None:
    rerun = next_step(app("PENDING_RERUN"), left, NOW)
    assert (rerun.submit, rerun.delete, state(rerun)) == (False, False, "PENDING_RERUN")
    failed = next_step(app("SUBMISSION_FAILED"), left, NOW)
    assert (failed.submit, failed.delete, bool(failed.not_yet)) == (False, True, True)
    resumed = next_step(app("SUSPENDED"), left, NOW)
    assert (resumed.submit, state(resumed)) == (False, "SUSPENDED")


def test_a_rerun_is_submitted_once_all_is_gone() -> None:
    step = next_step(app("PENDING_RERUN"), Seen(), NOW)
    assert step.submit
    assert reasons(step) == ["SparkApplicationPendingRerun"]


def test_a_new_spec_starts_all_over() -> None:
    step = next_step(app("INVALIDATING"), Seen(pod("Running")), NOW)
    assert step.delete
    assert state(step) == "PENDING_RERUN"
    assert "executionAttempts" not in step.status
    assert "submissionAttempts" not in step.status
    assert step.status["submissionID"] == "first"


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"suspend": True}, False), ({"timeToLiveSeconds": 5}, False), ({"image": "other"}, True), ({}, False)],
)
def test_which_changes_start_all_over(change: dict[str, Any], expected: bool) -> None:
    assert restarts_with_new_spec(app("RUNNING"), app("RUNNING", spec=change)) == expected


SUSPEND = {"suspend": True}


@pytest.mark.parametrize(
    "before",
    ["", "SUBMITTED", "RUNNING", "SUBMISSION_FAILED", "PENDING_RERUN", "FAILING", "SUCCEEDING", "UNKNOWN", "RESUMING"],
)
def test_it_is_suspended_from_any_state(before: str) -> None:
    step = next_step(app(before, spec=SUSPEND), Seen(pod("Running")), NOW)
    assert state(step) == "SUSPENDING"
    assert not step.submit


@pytest.mark.parametrize("before", ["COMPLETED", "FAILED"])
def test_what_has_ended_is_not_suspended(before: str) -> None:
    assert state(next_step(app(before, spec=SUSPEND), Seen(), NOW)) == before


def test_a_suspension_deletes_the_driver() -> None:
    step = next_step(app("SUSPENDING", spec=SUSPEND), Seen(pod("Running")), NOW)
    assert step.delete
    assert state(step) == "SUSPENDED"
    assert step.status["driverInfo"] == {}
    assert step.status["executionAttempts"] == 1
    assert state(next_step(app("SUSPENDED", spec=SUSPEND), Seen(), NOW)) == "SUSPENDED"


def test_it_is_resumed() -> None:
    assert state(next_step(app("SUSPENDED"), Seen(), NOW)) == "RESUMING"
    step = next_step(app("RESUMING"), Seen(), NOW)
    assert step.submit
    assert reasons(step) == ["SparkApplicationResuming"]


def test_it_is_deleted_after_its_time() -> None:
    ended = {"terminationTime": "2026-01-01T11:59:00Z"}
    assert next_step(app("COMPLETED", spec={"timeToLiveSeconds": 30}, **ended), Seen(), NOW).remove
    waits = next_step(app("COMPLETED", spec={"timeToLiveSeconds": 90}, **ended), Seen(), NOW)
    assert (waits.remove, waits.look_again) == (False, 30)
