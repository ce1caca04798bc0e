"""What the operators do with a target, and how a task fails."""

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from airflow.triggers.callback import CallbackTrigger

from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.operators.base import one_sentence
from millrace.operators.stream import (
    StartApplicationOperator,
    StopPipelineOperator,
    repeat_heartbeats,
    stop_all,
)
from millrace.targets import supervision
from millrace.targets.embedded import EmbeddedTarget
from millrace.triggers.stream import ApplicationReadyTrigger
from tests.unit.millrace.conftest import Application, eventually, lives

LOG = logging.getLogger("test")


class Instance:
    """The part of a task instance that tells the states of the run's tasks."""

    def __init__(self, **states: str) -> None:
        self.states = states

    def get_task_states(self, *, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        return {run_ids[0]: {task: state for task, state in self.states.items() if task in task_ids}}


def context(instance: Any = None) -> Any:
    ti = instance or SimpleNamespace(task_id="start", try_number=2)
    return {"dag": SimpleNamespace(dag_id="dag"), "run_id": "run", "ti": ti}


def start(application: Application) -> TaskDeferred:
    """Run the start operator as Airflow does the first time; return the deferral."""
    operator = StartApplicationOperator(
        task_id="start", manifest=str(application.manifest), application="sample", query="q"
    )
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute.__wrapped__(operator, context())  # type: ignore[attr-defined]
    return deferred.value


def stop_operator(**changes: Any) -> StopPipelineOperator:
    return StopPipelineOperator(task_id="stop", application="sample", job="replay", **changes)


def stop(operator: StopPipelineOperator, instance: Any = None) -> Any:
    return operator.execute.__wrapped__(operator, context(instance))  # type: ignore[attr-defined]


def test_start_waits_in_the_triggerer_and_a_retry_finds_the_same_driver(application: Application) -> None:
    application.prepare("wait")
    first = start(application)
    trigger = first.trigger
    assert isinstance(trigger, ApplicationReadyTrigger)
    assert (trigger.owner, trigger.first_try, trigger.resumed) == ("dag/run", 1, False)
    application.wait_for_starts(1)
    start(application)
    assert len(application.starts()) == 1


def test_target_is_told_which_task_asks(application: Application) -> None:
    application.prepare("wait")
    start(application)
    labels = json.loads(application.directory.spec.read_text())["labels"]
    assert labels == {"dag-id": "dag", "run-id": "run", "task-id": "start", "try-number": "2"}


def test_killed_task_leaves_what_it_started_to_the_stop_task(
    application: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    application.start()
    pid = application.wait_for_starts(1)[0]
    StartApplicationOperator(task_id="start", manifest="m", application="sample", query="q").on_kill()
    assert "If it has started sample, that goes on and belongs to this run" in capsys.readouterr().out
    assert lives(pid)
    assert stop(stop_operator())["sample"].startswith("COMPLETED")
    assert not lives(pid)


def test_event_that_is_an_error_fails_the_task_and_shows_the_drivers_log(
    application: Application, capsys: pytest.CaptureFixture[str]
) -> None:
    application.start()
    pid = application.wait_for_starts(1)[0]
    eventually(lambda: f"driver {pid} wait" in application.target.driver_log("sample")[0])
    operator = StartApplicationOperator(task_id="start", manifest="m", application="sample", query="q")
    with pytest.raises(AirflowException, match="it has ended"):
        operator.on_event(context(), {"status": "error", "message": "it has ended"})
    assert f"driver {pid} wait" in capsys.readouterr().out


def test_manifest_of_another_application_is_refused(application: Application) -> None:
    application.prepare("wait")
    operator = StartApplicationOperator(
        task_id="start", manifest=str(application.manifest), application="other", query="q"
    )
    with pytest.raises(AirflowFailException, match="describes sample, not other"):
        operator.execute.__wrapped__(operator, context())  # type: ignore[attr-defined]


def test_stop_task_stops_what_its_run_started(application: Application) -> None:
    application.start()
    pid = application.wait_for_starts(1)[0]
    done = stop(stop_operator())
    assert not lives(pid)
    assert done["sample"].startswith("COMPLETED: stopped as asked")
    assert done["replay"] == "nothing to stop: never started, it belongs to nobody"
    assert stop(stop_operator())["sample"].startswith("nothing to stop: COMPLETED")


def test_stop_task_leaves_what_another_run_started(application: Application) -> None:
    application.start(owner="dag/other")
    pid = application.wait_for_starts(1)[0]
    eventually(lambda: application.state() == "RUNNING")
    assert stop(stop_operator())["sample"] == "nothing to stop: RUNNING, it belongs to dag/other"
    assert lives(pid)


def test_stop_task_fails_if_an_earlier_task_did_after_it_has_stopped_everything(application: Application) -> None:
    application.start()
    pid = application.wait_for_starts(1)[0]
    operator = stop_operator(decisive_tasks=["start", "verify", "report"])
    with pytest.raises(AirflowFailException, match=r"because of verify \(failed\), report \(None\)"):
        stop(operator, Instance(start="success", verify="failed"))
    assert not lives(pid)
    assert stop(operator, Instance(start="success", verify="success", report="success"))


def test_end_by_force_fails_the_run_also_in_a_retry(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FORCE_TIMEOUT", 0.5)
    application.start(behaviour="stubborn")
    application.wait_for_starts(1)
    operator = stop_operator(stop_timeout=0.2)
    for _ in range(2):
        with pytest.raises(AirflowFailException, match=r"did not end well: did not stop within 0\.2 s"):
            stop(operator)


def test_one_that_can_not_be_stopped_does_not_keep_the_other(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.start()
    pid = application.wait_for_starts(1)[0]

    def fail(*_: Any) -> None:
        raise MillraceError("the job does not end")

    status = EmbeddedTarget.application_status
    monkeypatch.setattr(EmbeddedTarget, "job_status", lambda self, _: status(self, "sample"))
    monkeypatch.setattr(EmbeddedTarget, "stop_job", fail)
    with pytest.raises(MillraceError, match="the job does not end"):
        stop_all("sample", "replay", "dag/run", 20)
    assert not lives(pid)


def test_heartbeats_need_a_topic_and_a_summary(target: EmbeddedTarget) -> None:
    with pytest.raises(MillraceError, match="no topic was given"):
        repeat_heartbeats(LOG, "kafka_default", None, "replay")
    with pytest.raises(MillraceError, match="has no heartbeat_time"):
        repeat_heartbeats(LOG, "kafka_default", "events", "replay")


@pytest.mark.parametrize(
    ("error", "expected"), [(MillraceError, AirflowException), (OwnedByAnotherError, AirflowFailException)]
)
def test_failure_is_one_sentence_without_what_lies_behind(
    error: type[MillraceError], expected: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(expected, match="do this") as caught, one_sentence(LOG):
        raise error("do this") from OSError("errno 5")
    assert caught.value.__suppress_context__
    assert caplog.messages == ["do this"]


def test_deadline_callback_runs_as_the_triggerer_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    import streaming_pipeline
    from millrace import callbacks

    said: list[dict[str, Any]] = []
    monkeypatch.setattr(callbacks, "announce", lambda event, given: said.append({"event": event, **given}))
    (alert,) = streaming_pipeline.dag.deadline
    kwargs = {**alert.callback.kwargs, "context": {"dag_run": {"dag_id": "d", "run_id": "r"}}}

    async def run() -> list[Any]:
        return [event.payload async for event in CallbackTrigger(alert.callback.path, kwargs).run()]

    assert asyncio.run(run())[-1]["state"] == "success"
    assert said[0]["event"] == "deadline"
    assert said[0]["dag_run"]["run_id"] == "r"
    assert "30 min" in said[0]["reason"]


def test_a_resumed_stream_without_windows_has_nothing_to_wait_for(application: Application) -> None:
    application.start()
    application.wait_for_starts(1)
    operator = StartApplicationOperator(task_id="start", manifest="m", application="sample", query="q", job="replay")
    assert operator.on_event(context(), {"status": "idle", "message": "nothing new"})["name"] == "sample"


def test_after_its_heartbeats_a_stream_is_waited_for_by_its_first_batch(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millrace.operators.stream.repeat_heartbeats", lambda *_: None)
    operator = StartApplicationOperator(
        task_id="start", manifest="m", application="sample", query="q", job="replay", topic="events"
    )
    waiting = {"first_try": 1, "resumed": True, "deadline": 7.0, "topic": "events"}
    with pytest.raises(TaskDeferred) as deferred:
        operator.on_event(context(), {"status": "idle", "message": "nothing new"}, **waiting)
    assert deferred.value.trigger.arguments() | waiting | {"topic": None} == deferred.value.trigger.arguments()
