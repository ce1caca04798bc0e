"""What the cluster's tests run in a pod to look at a topic."""

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from tests.cluster.installation import LOOK, TOPIC

EMPTY = SimpleNamespace(topics={TOPIC: SimpleNamespace(partitions={0: None})})
SETTINGS = {"retention.ms": SimpleNamespace(value="1000")}


class Group:
    """A consumer of an empty topic, and the administrator's client; commits are refused as `refusals` says."""

    def __init__(self, refusals: Iterator[int]) -> None:
        self._refusals = refusals
        self.kept = 0

    def commit(self, **_: Any) -> None:
        for code in self._refusals:
            raise KafkaException(KafkaError(code))
        self.kept += 1

    def list_topics(self, *_: Any) -> Any:
        return EMPTY

    def get_watermark_offsets(self, *_: Any) -> tuple[int, int]:
        return 0, 0

    def assign(self, _: Any) -> None: ...

    def close(self) -> None: ...

    def describe_configs(self, resources: list[Any]) -> dict[Any, Any]:
        return {resources[0]: SimpleNamespace(result=lambda _: SETTINGS)}


def look(monkeypatch: pytest.MonkeyPatch, folder: Path, *refusals: int) -> Group:
    group = Group(iter(refusals))
    monkeypatch.setattr("confluent_kafka.Consumer", lambda _: group)
    monkeypatch.setattr("confluent_kafka.admin.AdminClient", lambda _: group)
    monkeypatch.setattr("sys.argv", ["look", TOPIC])
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps({"extra": {}}))
    (folder / "look.py").write_text(LOOK)
    runpy.run_path(str(folder / "look.py"))
    return group


def test_a_group_that_has_no_coordinator_yet_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    group = look(monkeypatch, tmp_path, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    assert group.kept == 1
    assert json.loads(capsys.readouterr().out) == {"ends": {"0": 0}, "values": [], "retention": "1000"}


def test_what_is_refused_for_good_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(KafkaException, match="GROUP_AUTHORIZATION_FAILED"):
        look(monkeypatch, tmp_path, KafkaError.GROUP_AUTHORIZATION_FAILED)
