"""An application that runs to its end: started, waited for, found again, stopped."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from millrace.operators.batch import RunApplicationOperator
from millrace.operators.stream import stop_all
from millrace.targets.base import ApplicationState
from millrace.triggers import base, batch
from millrace.triggers.batch import ApplicationCompletedTrigger
from tests.unit.millrace.conftest import Application, eventually, lives
from tests.unit.millrace.test_triggers import OWNER, Known, event_of


def completed(**changes: Any) -> ApplicationCompletedTrigger:
    return ApplicationCompletedTrigger(**{"application": "app", "owner": OWNER, "poll_interval": 0.02, **changes})


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Known:
    target = Known()
    monkeypatch.setattr(batch, "get_target", lambda: target)
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.0)
    return target


def test_trigger_can_be_made_again_from_what_it_serializes() -> None:
    trigger = completed(deadline=5.0)
    path, arguments = trigger.serialize()
    assert path == "millrace.triggers.batch.ApplicationCompletedTrigger"
    assert ApplicationCompletedTrigger(**arguments).serialize() == (path, arguments)


def test_completed_is_success_and_anything_else_that_ended_is_an_error(known: Known) -> None:
    known.application = replace(known.application, state=ApplicationState.COMPLETED)
    assert event_of(completed())["status"] == "success"
    known.application = replace(known.application, message="stopped between two tries, as asked")
    assert event_of(completed())["status"] == "error"
    known.application = replace(known.application, state=ApplicationState.FAILED, message="exit code 2")
    assert "app has ended (FAILED): exit code 2" in event_of(completed())["message"]
    known.application = replace(known.application, state=ApplicationState.NEW)
    assert "somebody deleted it" in event_of(completed())["message"]


def test_another_run_s_completion_is_not_ours(known: Known) -> None:
    known.application = replace(known.application, state=ApplicationState.COMPLETED, owner="dag/other")
    assert "run by dag/other" in event_of(completed())["message"]


def test_waiting_ends_at_the_deadline_and_says_what_was_seen(known: Known) -> None:
    event = event_of(completed(deadline=time.time() + 0.1))
    assert event["status"] == "error"
    assert "app has not completed and is RUNNING" in event["message"]


def context() -> Any:
    ti = SimpleNamespace(task_id="run", try_number=1)
    return {"dag": SimpleNamespace(dag_id="dag"), "run_id": "run", "ti": ti}


def operator(application: Application, name: str = "sample") -> RunApplicationOperator:
    return RunApplicationOperator(task_id="run", manifest=str(application.manifest), application=name)


def execute(task: RunApplicationOperator) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as deferred:
        task.execute.__wrapped__(task, context())  # type: ignore[attr-defined]
    return deferred.value


def test_it_runs_to_its_end_and_the_task_with_it(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.0)
    application.prepare("exit 0")
    event = event_of(execute(operator(application)).trigger)
    assert event["status"] == "success"
    assert operator(application).on_event(context(), event)["tries"] == 1


def test_a_retry_finds_the_same_driver_and_a_cleared_task_runs_another(application: Application) -> None:
    application.prepare("wait")
    execute(operator(application))
    application.wait_for_starts(1)
    execute(operator(application))
    assert len(application.starts()) == 1
    stop_all("sample", None, "dag/run", 10)
    application.prepare("exit 0")
    execute(operator(application))
    application.wait_for_starts(2)


def test_a_failure_is_told_with_the_driver_s_log(
    application: Application, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.0)
    application.prepare("exit 3")
    event = event_of(execute(operator(application)).trigger)
    with pytest.raises(AirflowException, match=r"sample has ended \(FAILED\): the driver ended with exit code 3"):
        operator(application).on_event(context(), event)
    assert "exit 3" in capsys.readouterr().out


def test_after_its_time_it_is_stopped_by_force_if_it_is_this_run_s(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.prepare("stubborn")
    execute(operator(application))
    (pid,) = application.wait_for_starts(1)
    late = {"status": "error", "message": "Gave up"}
    other = {**context(), "run_id": "other"}
    with pytest.raises(AirflowException, match="Gave up"):
        operator(application).on_event(other, late)
    assert lives(pid)
    monkeypatch.setattr("millrace.targets.supervision.FORCE_TIMEOUT", 0.5)
    with pytest.raises(AirflowException, match="Gave up"):
        operator(application).on_event(context(), late)
    eventually(lambda: not lives(pid))
    assert application.state() == "FAILED"


def test_manifest_of_another_application_is_refused(application: Application) -> None:
    application.prepare("exit 0")
    with pytest.raises(AirflowFailException, match="describes sample, not other"):
        operator(application, "other").execute.__wrapped__(operator(application, "other"), context())  # type: ignore[attr-defined]
