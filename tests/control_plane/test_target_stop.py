"""The target `kubernetes` stops applications: gracefully, between two tries, by suspending, and last by deleting."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from millrace import storage
from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.operators.stream import StopPipelineOperator
from millrace.targets import kubernetes
from millrace.targets.base import Target
from tests.control_plane.conftest import OWNER, context, eventually
from tests.control_plane.pods import Kubelet
from tests.control_plane.spark import NAME, Operator

PATIENT = 60.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def stop_task(timeout: float = PATIENT) -> StopPipelineOperator:
    return StopPipelineOperator(task_id="stop", application=NAME, job="replay", stop_timeout=timeout)


def execute(task: StopPipelineOperator) -> Any:
    return task.execute.__wrapped__(task, context())  # type: ignore[attr-defined]


def asked() -> bool:
    return storage.exists("control", NAME, "stop")


def suspends(operator: Operator, kubelet: Kubelet, pod: str) -> None:
    """What the Spark operator does about `spec.suspend`: it deletes the pod, and doesn't wait for its end."""
    eventually(operator.suspended)
    operator.says("SUSPENDING")
    operator.says("SUSPENDED")
    kubelet.is_gone(pod)


def test_driver_finishes_its_batch_and_ends(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, pool: ThreadPoolExecutor
) -> None:
    done: Future[Any] = pool.submit(execute, stop_task())
    eventually(asked)
    operator.says("SUCCEEDING")
    assert not done.done()
    kubelet.ends(started)
    operator.says("COMPLETED")
    assert done.result(PATIENT) == {
        NAME: "COMPLETED: stopped as asked",
        "replay": "nothing to stop: never started, it belongs to nobody",
    }
    assert not operator.suspended()
    assert execute(stop_task())[NAME] == "nothing to stop: COMPLETED"


def test_one_that_does_not_end_is_suspended_and_that_fails_the_run_also_in_a_retry(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, pool: ThreadPoolExecutor
) -> None:
    done = pool.submit(execute, stop_task(timeout=1.0))
    suspends(operator, kubelet, started)
    sentence = r"event-windows did not end well: did not stop within 1 s, so it was ended by force; its last batch will"
    with pytest.raises(AirflowFailException, match=sentence):
        done.result(PATIENT)
    with pytest.raises(AirflowFailException, match=sentence):
        execute(stop_task())
    assert target.application_status(NAME).state == "FAILED"


def test_suspended_is_not_ended_before_the_driver_is_gone(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, pool: ThreadPoolExecutor
) -> None:
    done = pool.submit(target.stop_application, NAME, 0.0, OWNER)
    eventually(operator.suspended)
    operator.says("SUSPENDED")
    assert target.application_status(NAME).state == "SUSPENDING"
    assert not done.done()
    kubelet.is_gone(started)
    assert done.result(PATIENT).message.startswith("did not stop within 0 s")


def test_one_that_nobody_suspends_is_deleted(
    target: Target,
    operator: Operator,
    kubelet: Kubelet,
    started: str,
    pool: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No Spark operator is there (any more), or it is too old to know `spec.suspend`."""
    monkeypatch.setattr(kubernetes, "SUSPENSION_TIMEOUT", 1.0)
    done = pool.submit(execute, stop_task(timeout=1.0))
    eventually(lambda: (operator.object() or {}).get("metadata", {}).get("deletionTimestamp"))
    kubelet.is_gone(started)
    with pytest.raises(AirflowFailException, match="nor did the Spark operator end it, so it was deleted; its last"):
        done.result(PATIENT)
    assert operator.object() is None


def test_one_that_not_even_deletion_ends_is_an_error(
    target: Target, operator: Operator, started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its node doesn't answer, so nobody knows whether the driver still runs."""
    for timeout in ("SUSPENSION_TIMEOUT", "END_TIMEOUT"):
        monkeypatch.setattr(kubernetes, timeout, 1.0)
    with pytest.raises(MillraceError, match="does not end, though it was deleted: see its pod"):
        target.stop_application(NAME, 0.0, OWNER)
    assert target.application_status(NAME).message == "it is being deleted"


@pytest.mark.parametrize("state", ["PENDING_RERUN", "SUBMISSION_FAILED"])
def test_one_that_waits_for_its_next_try_gets_none(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, pool: ThreadPoolExecutor, state: str
) -> None:
    kubelet.is_gone(started)
    operator.says(state, "exit code 1")
    done = pool.submit(execute, stop_task())
    suspends(operator, kubelet, started)
    assert done.result(PATIENT)[NAME] == "SUSPENDED: stopped between two tries, as asked"


def test_driver_that_restarts_always_is_suspended_when_it_has_ended(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, pool: ThreadPoolExecutor
) -> None:
    done = pool.submit(execute, stop_task())
    eventually(asked)
    kubelet.ends(started)
    operator.says("SUCCEEDING")
    operator.says("PENDING_RERUN")
    suspends(operator, kubelet, started)
    assert done.result(PATIENT)[NAME] == "SUSPENDED: stopped between two tries, as asked"


def test_one_that_is_being_deleted_is_waited_for(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, pool: ThreadPoolExecutor, place: str, plane: Any
) -> None:
    plane.kubectl("delete", "sparkapplication", NAME, f"--namespace={place}", "--cascade=foreground", "--wait=false")
    done = pool.submit(target.stop_application, NAME, PATIENT, OWNER)
    assert not done.done()
    kubelet.is_gone(started)
    assert done.result(PATIENT).state == ""
    assert operator.object() is None


def test_other_owners_application_is_left_running(target: Target, operator: Operator, started: str) -> None:
    before = operator.object()
    with pytest.raises(OwnedByAnotherError, match=f"{NAME} belongs to dag/run, so it was left running"):
        target.stop_application(NAME, 0.0, "dag/other")
    assert operator.object() == before
    assert not asked()


def test_nothing_is_stopped_where_nothing_runs(target: Target) -> None:
    assert target.stop_application(NAME, 0.0, OWNER).state == ""
    assert not asked()


def test_stop_finds_what_a_killed_task_has_started(
    target: Target, manifest: Path, operator: Operator, kubelet: Kubelet, pool: ThreadPoolExecutor
) -> None:
    target.start_application(manifest, OWNER)  # and the worker is gone before it waits
    done = pool.submit(execute, stop_task(timeout=1.0))
    eventually(operator.suspended)
    operator.says("SUSPENDED")
    with pytest.raises(AirflowFailException, match="ended by force"):
        done.result(PATIENT)
