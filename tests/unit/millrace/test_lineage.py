"""Lineage from records as OpenLineage's client writes them, good and bad."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from millrace import lineage
from millrace.errors import MillraceError
from millrace.lineage import collect
from millrace.lineage_transport import client_settings


@dataclass(frozen=True)
class Record:
    content: bytes | None
    position: int = 0

    def value(self) -> bytes | None:
        return self.content

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.position


def event(
    job: str, inputs: list[str], outputs: list[str], time: str = "2026-01-01T00:00:00Z", change: dict | None = None
) -> Record:
    def datasets(names: list[str]) -> list[dict[str, str]]:
        return [dict(zip(("namespace", "name"), name.split("://"), strict=True)) for name in names]

    body = {
        "eventType": "COMPLETE",
        "eventTime": time,
        "job": {"namespace": "default", "name": job},
        "run": {"runId": f"run of {job} at {time}"},
        "inputs": datasets(inputs),
        "outputs": datasets(outputs),
    }
    return Record(json.dumps(body | (change or {})).encode())


CHAIN = [
    event("p.count", ["kafka://events"], ["delta://windows"]),
    event("p.replay", ["pypi://flights"], ["kafka://events"]),
    event("b.aggregate", ["delta://windows"], ["delta://hours"]),
    event("b.train", ["delta://hours"], ["model://forecast"]),
]


def jobs(found: lineage.Lineage, dataset: str) -> list[str]:
    return [step.job for step in found.upstream(dataset)]


def test_a_table_is_followed_to_where_it_comes_from() -> None:
    found = collect(CHAIN)
    assert jobs(found, "delta://hours") == ["b.aggregate", "p.count", "p.replay"]
    assert jobs(found, "kafka://events") == ["p.replay"]
    assert jobs(found, "pypi://flights") == []


def test_a_circle_ends() -> None:
    found = collect([*CHAIN, event("b.feed_back", ["delta://hours"], ["kafka://events"])])
    assert jobs(found, "delta://hours") == ["b.aggregate", "p.count", "b.feed_back", "p.replay"]


def test_the_newest_run_of_a_task_counts_whatever_the_order() -> None:
    newer = event("b.aggregate", ["delta://other"], ["delta://hours"], time="2026-01-02T00:00:00Z")
    for order in ([*CHAIN, newer], [newer, *CHAIN]):
        assert jobs(collect(order), "delta://hours") == ["b.aggregate"]


BAD = [
    None,
    b"",
    b"\xff",
    b"[]",
    b"7",
    b"{}",
    b'{"eventType": "COMPLETE", "job": 1}',
    b'{"eventType": "COMPLETE", "job": {"name": "half',
    event("x", [], [], change={"inputs": [{"name": 1}]}).content,
    event("x", [], ["delta://hours"], change={"run": None}).content,
    event("x", [], ["a://b"], change={"eventTime": None}).content,
]


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_record_is_noted_and_stops_nobody(bad: bytes | None) -> None:
    found = collect([*CHAIN[:2], Record(bad, 41), *CHAIN[2:]])
    assert len(found.bad) == 1
    assert "partition 0, offset 41" in found.bad[0]
    assert jobs(found, "delta://hours") == ["b.aggregate", "p.count", "p.replay"]


def test_what_started_or_failed_made_nothing() -> None:
    for kind in ("START", "FAIL", "ABORT"):
        assert collect([event("x", ["a://b"], ["delta://hours"], change={"eventType": kind})]).steps == {}


@pytest.mark.parametrize("extra", [{"bootstrap.servers": "a:1"}, '{"bootstrap.servers": "a:1"}'])
def test_the_transport_takes_broker_and_user_from_the_connection(extra: Any) -> None:
    variable = json.dumps({"conn_type": "kafka", "extra": extra})
    assert client_settings({"AIRFLOW_CONN_KAFKA_DEFAULT": variable})["bootstrap.servers"] == "a:1"


@pytest.mark.parametrize(
    "value", [None, "kafka://", "{}", '{"extra": {}}', '{"extra": {"bootstrap.servers": ""}}', "[]"]
)
def test_a_missing_connection_is_one_sentence(value: str | None) -> None:
    with pytest.raises(MillraceError, match="AIRFLOW_CONN_KAFKA_DEFAULT does not say where Kafka is"):
        client_settings({} if value is None else {"AIRFLOW_CONN_KAFKA_DEFAULT": value})
