"""What is said when a run ends or is late."""

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from millrace import callbacks, kafka, records
from millrace.errors import MillraceError
from millrace.notifications import Notice
from millrace.operators import stream as operators

CONTEXT = {
    "dag": SimpleNamespace(dag_id="pipeline"),
    "run_id": "run-1",
    "reason": "task_failure",
    "dag_run": SimpleNamespace(dag_id="pipeline", run_id="run-1", start_date="2026-01-01", end_date=None),
    "ti": SimpleNamespace(task_id="verify_outputs"),
}


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    taken: list[Notice] = []
    monkeypatch.setattr(callbacks, "notify", taken.append)
    return taken


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    taken: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(kafka, "connection_config", lambda: {"bootstrap.servers": "h:1"})
    monkeypatch.setattr(
        records, "send", lambda _, topic, key, value, **__: taken.append((f"{topic}/{key}", json.loads(value)))
    )
    return taken


def test_failure_is_logged_and_sent(sent: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    callbacks.announce_failure(CONTEXT)
    ((place, record),) = sent
    assert place == "system-metrics/pipeline"
    assert (record["event"], record["run_id"], record["reason"]) == ("dag_run_failure", "run-1", "task_failure")
    assert record["last_task"] == "verify_outputs"
    assert caplog.records[0].levelno == logging.ERROR


def test_success_is_sent_from_a_context_with_less(sent: list[Any]) -> None:
    callbacks.announce_success({"dag": CONTEXT["dag"], "run_id": "run-1", "reason": None})
    assert (sent[0][1]["event"], sent[0][1]["dag_id"], sent[0][1]["run_id"]) == ("dag_run_success", "pipeline", "run-1")


def test_deadline_is_sent_from_the_dictionaries_that_the_triggerer_gives(sent: list[Any]) -> None:
    context = {"dag_run": {"dag_id": "pipeline", "dag_run_id": "run-1", "run_id": "run-1"}, "deadline": {"id": "x"}}
    asyncio.run(callbacks.announce_deadline("not finished", context=context))
    assert (sent[0][1]["event"], sent[0][1]["reason"]) == ("dag_run_deadline", "not finished")


def test_broker_that_is_away_costs_only_the_record(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> dict[str, Any]:
        raise MillraceError("no broker")

    monkeypatch.setattr(kafka, "connection_config", fail)
    callbacks.announce_failure(CONTEXT)
    assert "not in system-metrics: no broker" in caplog.text


def test_failed_run_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[tuple[Any, ...]] = []

    def stop_all(*given: Any) -> dict[str, str]:
        stopped.append(given)
        return {}

    monkeypatch.setattr(operators, "stop_all", stop_all)
    callbacks.stop_after_failure("app", "replay")(CONTEXT)
    assert stopped == [("app", "replay", "pipeline/run-1", callbacks.STOP_TIMEOUT)]


def test_people_are_told_of_a_failure_and_where_to_look(
    sent: list[Any], told: list[Notice], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://airflow.example.org/")
    callbacks.announce_failure({**CONTEXT, "dag_run": SimpleNamespace(dag_id="pipeline", run_id="manual__1+00:00")})
    (notice,) = told
    assert notice.subject == "pipeline has failed: run manual__1+00:00"
    assert notice.severity == "error"
    assert notice.facts == {"Reason": "task_failure", "Last task": "verify_outputs"}
    assert notice.link == "http://airflow.example.org/dags/pipeline/runs/manual__1%2B00%3A00"
    assert len(sent) == 1


def test_people_are_told_of_a_missed_deadline_and_of_no_success(sent: list[Any], told: list[Notice]) -> None:
    callbacks.announce_success(CONTEXT)
    assert told == []
    asyncio.run(callbacks.announce_deadline("not finished", context={"dag_run": CONTEXT["dag_run"]}))
    assert [(notice.severity, notice.key) for notice in told] == [("warning", "pipeline/run-1/deadline")]


def test_retry_is_recorded_with_its_try_and_reason_and_disturbs_nobody(sent: list[Any], told: list[Notice]) -> None:
    instance = SimpleNamespace(task_id="load", try_number=2)
    callbacks.announce_retry({**CONTEXT, "ti": instance, "exception": ValueError("no\nluck")})
    ((_, record),) = sent
    assert (record["event"], record["last_task"], record["try_number"]) == ("task_retry", "load", 2)
    assert record["reason"] == "no luck"
    assert told == []
