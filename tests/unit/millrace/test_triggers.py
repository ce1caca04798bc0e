"""What the triggers conclude from what a target says, and that they leave the event loop alone."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from millrace import history
from millrace.errors import MillraceError, TemporaryError
from millrace.targets.base import ApplicationState, ApplicationStatus, JobState, JobStatus
from millrace.triggers import base, stream
from millrace.triggers.base import PollingTrigger
from millrace.triggers.stream import ApplicationReadyTrigger, CaughtUpTrigger

OWNER = "dag/run"
RESULT = {"last_event_time": "2013-02-01T09:09:00Z", "end_offsets": {"0": 10, "1": 20}}
BATCH = {
    "runId": "r",
    "batchId": 1,
    "timestamp": "2026-01-01T00:00:00Z",
    "eventTime": {"watermark": "2013-02-01T09:14:00.000Z"},
    "sources": [{"endOffset": {"events": {"0": 10, "1": 20}}}],
}


class Known:
    """A target that knows what the test says."""

    def __init__(self) -> None:
        self.application = ApplicationStatus("app", ApplicationState.RUNNING, owner=OWNER, tries=1)
        self.job = JobStatus("replay", JobState.SUCCEEDED, owner=OWNER, result=dict(RESULT))
        self.document: dict[str, Any] | None = {"queries": [{"name": "windows", "active": True, "progress": [BATCH]}]}

    def application_status(self, _: str) -> ApplicationStatus:
        return self.application

    def job_status(self, _: str) -> JobStatus:
        return self.job

    def progress(self, name: str, last: int | None = None) -> dict[str, Any]:
        if self.document is None:
            raise MillraceError(f"{name} does not answer")
        return self.document

    def batch(self, **changes: Any) -> None:
        self.document = {"queries": [{"name": "windows", "active": True, "progress": [{**BATCH, **changes}]}]}

    def no_batch(self) -> None:
        self.document = {"queries": [{"name": "windows", "active": True, "progress": []}]}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Known:
    target = Known()
    monkeypatch.setattr(stream, "get_target", lambda: target)
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(stream, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(stream, "FIRST_BATCH_SECONDS", 0.2)
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    return target


def ready(**changes: Any) -> ApplicationReadyTrigger:
    given = {"application": "app", "query": "windows", "owner": OWNER, "first_try": 1, "job": "replay"}
    return ApplicationReadyTrigger(**{**given, "poll_interval": 0.02, **changes})


def caught_up(**changes: Any) -> CaughtUpTrigger:
    given = {"application": "app", "query": "windows", "owner": OWNER, "job": "replay", "topic": "events"}
    windows = {"window_seconds": 300, "slide_seconds": 60, "run_id": "run", "poll_interval": 0.02}
    return CaughtUpTrigger(**{**given, **windows, **changes})


def event_of(trigger: PollingTrigger) -> dict[str, Any]:
    async def first() -> dict[str, Any]:
        return (await anext(aiter(trigger.run()))).payload

    return asyncio.run(asyncio.wait_for(first(), 30))


@pytest.mark.parametrize("trigger", [ready(deadline=5.0, resumed=True), caught_up(deadline=6.0)])
def test_trigger_can_be_made_again_from_what_it_serializes(trigger: BaseTrigger) -> None:
    path, arguments = trigger.serialize()
    assert path == f"millrace.triggers.stream.{type(trigger).__name__}"
    assert type(trigger)(**arguments).serialize() == (path, arguments)


def test_ready_when_running_with_a_first_batch(known: Known) -> None:
    assert event_of(ready())["status"] == "success"


@pytest.mark.parametrize("state", ["FAILED", "COMPLETED", "SUSPENDED"])
def test_ended_application_is_an_error_for_both(known: Known, state: str) -> None:
    known.application = replace(known.application, state=ApplicationState(state), message="exit code 2")
    for trigger in (ready(), caught_up()):
        event = event_of(trigger)
        assert event["status"] == "error"
        assert f"app has ended ({state}): exit code 2" in event["message"]


def test_application_of_another_run_is_an_error_for_both(known: Known) -> None:
    known.application = replace(known.application, owner="dag/other")
    for trigger in (ready(), caught_up()):
        assert "run by dag/other, not by this run" in event_of(trigger)["message"]


def test_waiting_ends_at_the_deadline_and_says_what_was_missing(known: Known) -> None:
    known.no_batch()
    event = event_of(ready(deadline=time.time() + 0.1))
    assert event["status"] == "error"
    assert "has not reported a first batch of windows" in event["message"]


def test_drivers_that_keep_failing_are_an_error(known: Known) -> None:
    known.application = replace(known.application, state=ApplicationState.PENDING_RERUN, tries=4, message="exit code 2")
    event = event_of(ready())
    assert (event["status"], "failed 3 times before its first batch: exit code 2" in event["message"]) == (
        "error",
        True,
    )


def test_resumed_query_without_anything_to_do_is_idle(known: Known) -> None:
    known.no_batch()
    assert event_of(ready(resumed=True))["status"] == "idle"
    assert event_of(ready(resumed=False, deadline=time.time() + 1))["status"] == "error"
    known.job = replace(known.job, state=JobState.RUNNING)  # There may still come something.
    assert event_of(ready(resumed=True, deadline=time.time() + 1))["status"] == "error"


def test_driver_that_does_not_answer_is_waited_for(known: Known) -> None:
    known.document = None
    assert event_of(ready(deadline=time.time() + 0.1))["status"] == "error"
    event = event_of(caught_up(deadline=time.time() + 0.1))
    assert "its driver does not answer" in event["message"]


@pytest.mark.parametrize("patience", [600.0, 0.0])
def test_outage_is_waited_out_as_long_as_it_has_patience(
    known: Known, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    answers = [TemporaryError("nobody answers", patience)] * 3 + [known.application]

    def status(_: str) -> ApplicationStatus:
        answer = answers.pop(0)
        if isinstance(answer, TemporaryError):
            raise answer
        return answer

    monkeypatch.setattr(known, "application_status", status)
    expected = {"status": "error", "message": "nobody answers"} if not patience else {"status": "success"}
    assert expected.items() <= event_of(ready()).items()
    assert len(answers) == (0 if patience else 3)


def test_what_somebody_deleted_is_an_error_for_both(known: Known) -> None:
    known.application = ApplicationStatus("app", ApplicationState.NEW)
    for trigger in (ready(), caught_up()):
        assert event_of(trigger)["message"] == "app is not there any more: somebody deleted it. Start it again."
    known.job = JobStatus("replay", JobState.NEW)
    assert event_of(caught_up())["message"] == "replay is not there any more: somebody deleted it. Start it again."


def test_caught_up_and_what_was_seen_is_kept(known: Known) -> None:
    assert event_of(caught_up())["status"] == "success"
    assert [batch["batch_id"] for batch in history.load("run")] == [1]


def test_failed_or_foreign_job_is_an_error(known: Known) -> None:
    known.job = replace(known.job, state=JobState.FAILED, message="the driver ended with exit code 2")
    assert "replay does not send any more: the driver ended with exit code 2" in event_of(caught_up())["message"]
    known.job = replace(known.job, state=JobState.SUCCEEDED, owner="dag/other", message="")
    assert "its owner dag/other" in event_of(caught_up())["message"]


def test_running_job_is_waited_for(known: Known) -> None:
    known.job = replace(known.job, state=JobState.RUNNING, result=None)
    assert "replay still sends" in event_of(caught_up(deadline=time.time() + 0.1))["message"]


def test_job_whose_summary_says_nothing_is_an_error(known: Known) -> None:
    known.job = replace(known.job, result={"sent": 5})
    event = event_of(caught_up())
    assert event["status"] == "error"
    assert "does not say what it sent" in event["message"]


def test_standing_watermark_is_idle(known: Known) -> None:
    known.batch(eventTime={"watermark": "2013-02-01T09:13:00.000Z"})
    event = event_of(caught_up())
    assert event["status"] == "idle"
    assert "the last window closes at 2013-02-01 09:14" in event["message"]


def test_silent_query_is_idle_but_a_working_one_is_not(known: Known) -> None:
    known.no_batch()
    assert event_of(caught_up())["status"] == "idle"
    known.batch(sources=[{"endOffset": {"events": {"0": 10, "1": 19}}}])
    event = event_of(caught_up(deadline=time.time() + 1))
    assert event["status"] == "error"
    assert "windows has 1 of 30 records before it" in event["message"]


class SlowTrigger(PollingTrigger):
    """Its look takes half a second, in which it blocks its thread."""

    def arguments(self) -> dict[str, Any]:
        return {}

    def waiting_for(self) -> str:
        return "nothing"

    def poll(self) -> dict[str, Any]:
        time.sleep(0.5)
        return {"status": "success"}


def test_event_waits_for_the_report_that_the_task_was_deferred(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.3)
    began = time.monotonic()
    assert event_of(caught_up())["status"] == "success"
    assert time.monotonic() - began >= 0.3


def test_looking_does_not_block_the_event_loop() -> None:
    async def ticks_meanwhile() -> int:
        waiting = asyncio.ensure_future(anext(aiter(SlowTrigger().run())))
        ticks = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(ticks_meanwhile()) >= 5
