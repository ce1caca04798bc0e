"""How far a checkpoint says that a query has come, and what the triggers of a stream without windows make of it."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from millrace import checkpoints
from millrace.errors import TemporaryError
from millrace.targets.base import JobState
from millrace.triggers import stream
from tests.unit.millrace.test_triggers import BATCH, RESULT, Known, caught_up, event_of, known, ready

__all__ = ["known"]


def batch(storage: Path, number: int, offsets: str, *, finished: bool = True) -> None:
    folder = storage / "checkpoints/app/windows"
    for name in ("offsets", "commits") if finished else ("offsets",):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "offsets" / str(number)).write_text(f'v1\n{{"batchWatermarkMs":0}}\n{offsets}')
    (folder / "offsets" / f".{number}.crc").touch()
    if finished:
        (folder / "commits" / str(number)).write_text('v1\n{"nextBatchWatermarkMs":0}')


def test_only_finished_batches_count_and_sources_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    assert checkpoints.committed_offsets("app", "windows", "events") == {}
    batch(tmp_path, 9, '{"events":{"0":5}}\n{"events":{"1":7},"other":{"0":1}}')
    batch(tmp_path, 10, '{"events":{"0":9,"1":9}}', finished=False)
    assert checkpoints.committed_offsets("app", "windows", "events") == {0: 5, 1: 7}
    assert checkpoints.shortfall("app", "windows", "events", {0: 5, 1: 7}) == ""
    assert checkpoints.shortfall("app", "windows", "events", {0: 6, 1: 9, 2: 1}) == (
        "windows has 4 of 16 records before it"
    )
    (tmp_path / "checkpoints/app/windows/offsets/9").write_text("v1\n{}\n{not JSON")
    with pytest.raises(TemporaryError, match="can't be read"):
        checkpoints.committed_offsets("app", "windows", "events")


def windowless(**changes: Any) -> Any:
    return caught_up(window_seconds=None, slide_seconds=None, **changes)


def test_without_windows_reading_all_is_enough(known: Known) -> None:
    known.batch(eventTime={})
    known.job.result.pop("last_event_time")  # type: ignore[union-attr]
    assert event_of(windowless()) == {"status": "success", "message": "every record is read"}
    known.batch(sources=[{"endOffset": {"events": {"0": 10, "1": 19}}}])
    event = event_of(windowless(deadline=time.time() + 0.5))
    assert "windows has 1 of 30 records before it" in event["message"]


def test_a_restarted_driver_that_has_nothing_to_report_is_judged_by_its_checkpoint(
    known: Known, tmp_path: Path
) -> None:
    known.no_batch()
    event = event_of(windowless(deadline=time.time() + 0.5))
    assert "windows has 30 of 30 records before it" in event["message"]
    batch(tmp_path, 3, json.dumps(BATCH["sources"][0]["endOffset"]))  # type: ignore[index]
    assert event_of(windowless())["status"] == "success"
    known.job.result["end_offsets"] = {**RESULT["end_offsets"], "1": 21}  # type: ignore[index,dict-item]
    assert "1 of 31 records" in event_of(windowless(deadline=time.time() + 0.5))["message"]


def test_a_trigger_without_windows_can_be_made_again() -> None:
    trigger = windowless()
    assert type(trigger)(**trigger.serialize()[1]).serialize() == trigger.serialize()


@pytest.mark.parametrize(("committed", "status"), [('{"0":12,"1":20}', "idle"), ('{"0":10,"1":19}', "error")])
def test_it_says_at_once_that_a_resumed_query_has_nothing_to_do(
    known: Known, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, committed: str, status: str
) -> None:
    monkeypatch.setattr(stream, "FIRST_BATCH_SECONDS", 60.0)
    known.no_batch()
    batch(tmp_path, 7, f'{{"events":{committed}}}')

    def waited(**changes: Any) -> str:
        return event_of(ready(resumed=True, deadline=time.time() + 1, **changes))["status"]

    assert waited(topic="events") == status
    # After heartbeats were sent it is no answer: were those read?
    assert waited(topic=None) == "error"
    known.job = replace(known.job, state=JobState.RUNNING)
    assert waited(topic="events") == "error"
