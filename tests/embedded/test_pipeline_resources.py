"""The DAG library's topics, heartbeats and preparation of a run, on a real broker."""

import json
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from embedded.broker import Broker
from embedded.ports import free_port
from millrace import heartbeat, kafka, preparation, records, storage
from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.kafka import TopicSpec
from millrace.preparation import Resources, prepare
from millrace.targets import get_target
from millrace.targets.base import JobSpec

pytestmark = pytest.mark.embedded

CONTRACT = """
topics:
  flow-input: {description: d, partitions: 3, config: {retention.ms: "3600000"}}
  flow-output: {description: d, partitions: 1}
  flow-shared: {description: d, partitions: 1}
"""
RANGE = {"from": "2013-01-01", "days": "2"}


@pytest.fixture
def config(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    connection = {"conn_type": "kafka", "extra": {"bootstrap.servers": broker.bootstrap_servers}}
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps(connection))
    settings = kafka.connection_config()
    yield settings
    kafka.delete_topics(settings, ["flow-input", "flow-output", "flow-shared"])


@pytest.fixture
def resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Resources]:
    monkeypatch.setenv("MILLRACE_TARGET", "embedded")
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}/storage")
    (tmp_path / "topics.yaml").write_text(CONTRACT)
    yield Resources(
        contract=tmp_path / "topics.yaml",
        topics=("flow-input", "flow-output"),
        application="flow",
        job="flow-replay",
        tables=("flow_table",),
    )
    get_target().stop_job("flow-replay", 10)


def prepared(resources: Resources, config: dict[str, Any], mode: str, **changes: Any) -> dict[str, list[str]]:
    given: dict[str, Any] = {"input_range": RANGE, "owner": "dag/run", **changes}
    return prepare(resources, mode=mode, config=config, **given)


def test_broker_that_answers_and_one_that_does_not(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert kafka.check_broker(config)["brokers"] == [config["bootstrap.servers"]]
    monkeypatch.setattr(kafka, "REQUEST_TIMEOUT", 1.0)
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(MillraceError, match=rf"No Kafka broker answers at {address} within 1 s") as caught:
        kafka.check_broker({**config, "bootstrap.servers": address})
    assert "\n" not in str(caught.value)


def test_topics_are_created_once_as_the_contract_says(config: dict[str, Any]) -> None:
    topics = [TopicSpec("flow-input", 3, {"retention.ms": "3600000"}), TopicSpec("flow-output", 1, {})]
    assert kafka.create_topics(config, topics) == ["flow-input", "flow-output"]
    assert kafka.create_topics(config, topics) == []
    assert kafka.end_offsets(config, "flow-input") == {0: 0, 1: 0, 2: 0}
    with pytest.raises(MillraceError, match="flow-input has 3 partitions, its contract says 4"):
        kafka.create_topics(config, [TopicSpec("flow-input", 4, {})])
    with pytest.raises(MillraceError, match="Kafka does not create topic flow-shared"):
        kafka.create_topics(config, [TopicSpec("flow-shared", 1, {"no.such.setting": "x"})])


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.LEADER_NOT_AVAILABLE])
def test_a_leader_that_is_not_known_everywhere_yet_is_waited_for(config, monkeypatch, code) -> None:
    kafka.create_topics(config, [TopicSpec("flow-input", 2, {})])
    admin = kafka.admin_client(config)
    refused: list[Any] = []
    answer = admin.list_offsets

    def not_yet(request, **options):
        if len(refused) == 2:
            return answer(request, **options)
        refused.append(request)
        failed: Future[Any] = Future()
        failed.set_exception(KafkaException(KafkaError(code)))
        return dict.fromkeys(request, failed)

    slow = SimpleNamespace(list_topics=admin.list_topics, list_offsets=not_yet)
    with monkeypatch.context() as early:
        early.setattr(kafka, "admin_client", lambda config: slow)
        assert kafka.end_offsets(config, "flow-input") == {0: 0, 1: 0}
    assert len(refused) == 2


def test_deleted_topic_is_gone_and_can_be_made_again(config: dict[str, Any]) -> None:
    topic = TopicSpec("flow-input", 2, {})
    for _ in range(3):
        kafka.create_topics(config, [topic])
        records.send(config, "flow-input", "key", b"value", partition=1)
        assert kafka.end_offsets(config, "flow-input") == {0: 0, 1: 1}
        assert kafka.delete_topics(config, ["flow-input", "no-such-topic"]) == ["flow-input"]
        assert kafka.end_offsets(config, "flow-input") == {}


def test_a_topic_that_the_metadata_does_not_show_yet_is_deleted_too(config, monkeypatch) -> None:
    kafka.create_topics(config, [TopicSpec("flow-input", 1, {})])
    with monkeypatch.context() as behind:
        behind.setattr(kafka, "existing_partitions", lambda admin: {})
        assert kafka.delete_topics(config, ["flow-input"]) == ["flow-input"]
    assert kafka.create_topics(config, [TopicSpec("flow-input", 2, {})]) == ["flow-input"]


def test_reading_a_topic_gives_each_record_once(config: dict[str, Any]) -> None:
    kafka.create_topics(config, [TopicSpec("flow-input", 3, {})])
    assert list(records.read_topic(config, "flow-input")) == []
    for number in range(7):
        records.send(config, "flow-input", f"k{number}", b"%d" % number, partition=number % 2)
    found = list(records.read_topic(config, "flow-input"))
    assert sorted(record.value() for record in found) == [b"%d" % number for number in range(7)]
    assert kafka.count_records(config, "flow-input") == 7


def test_record_that_nobody_takes_is_one_sentence(config: dict[str, Any]) -> None:
    with pytest.raises(MillraceError, match=r"Topic flow-input did not take a record"):
        records.send({**config, "bootstrap.servers": f"127.0.0.1:{free_port()}"}, "flow-input", "k", b"v", timeout=1)


def test_heartbeat_reaches_every_partition_and_keeps_the_contract(config: dict[str, Any]) -> None:
    import jsonschema

    kafka.create_topics(config, [TopicSpec("flow-input", 3, {})])
    ends = heartbeat.send_heartbeats(config, "flow-input", "2013-02-01T09:19:00Z")
    assert ends == {0: 1, 1: 1, 2: 1}
    schema = json.loads((Path(__file__).parents[2] / "contracts" / "events" / "v1.json").read_text())
    for record in records.read_topic(config, "flow-input"):
        event = json.loads(record.value())
        jsonschema.validate(event, schema)
        assert event["event_type"] == "heartbeat"
        assert record.key().decode() == event["event_id"]


def test_restart_begins_anew_and_leaves_other_topics_alone(config: dict[str, Any], resources: Resources) -> None:
    assert prepared(resources, config, "restart")["created"] == ["flow-input", "flow-output", "flow-shared"]
    for topic in ("flow-input", "flow-output", "flow-shared"):
        records.send(config, topic, "k", b"v")
    storage.write_json({}, "checkpoints", "flow", "query", "metadata")
    storage.write_json({}, "tables", "flow_table", "log.json")
    storage.write_json({}, "tables", "other_table", "log.json")
    done = prepared(resources, config, "restart")
    assert done["created"] == ["flow-input", "flow-output"]
    assert set(done["deleted"]) == {
        "flow-input",
        "flow-output",
        "ranges/flow-input.json",
        "checkpoints/flow",
        "tables/flow_table",
    }
    assert sum(kafka.end_offsets(config, "flow-input").values()) == 0
    assert kafka.count_records(config, "flow-shared") == 1
    assert storage.exists("tables", "other_table")


def test_resume_keeps_everything_of_the_same_range(config: dict[str, Any], resources: Resources) -> None:
    prepared(resources, config, "resume")  # With nothing there it is a start.
    records.send(config, "flow-input", "k", b"v")
    storage.write_json({}, "checkpoints", "flow", "query", "metadata")
    assert prepared(resources, config, "resume") == {"deleted": [], "created": []}
    assert kafka.count_records(config, "flow-input") == 1
    assert storage.exists("checkpoints", "flow")


def test_resume_of_another_range_is_refused(config: dict[str, Any], resources: Resources) -> None:
    prepared(resources, config, "restart")
    records.send(config, "flow-input", "k", b"v")
    with pytest.raises(MillraceError, match="holds from 2013-01-01, days 2; that can only be resumed with the same"):
        prepared(resources, config, "resume", input_range={"from": "2013-01-01", "days": "3"})


def test_resume_of_a_topic_of_unknown_origin_is_refused(config: dict[str, Any], resources: Resources) -> None:
    kafka.create_topics(config, [TopicSpec("flow-input", 3, {})])
    records.send(config, "flow-input", "k", b"v")
    with pytest.raises(MillraceError, match="an unknown range"):
        prepared(resources, config, "resume")


def test_resume_of_a_checkpoint_without_its_topic_is_refused(config: dict[str, Any], resources: Resources) -> None:
    storage.write_json({}, "checkpoints", "flow", "query", "metadata")
    with pytest.raises(MillraceError, match="topic flow-input is empty, so it can't be resumed"):
        prepared(resources, config, "resume")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [({"mode": "again"}, "The mode is 'again'"), ({"topics": ("nowhere",)}, "does not describe nowhere")],
)
def test_unknown_mode_and_topic_are_refused(
    config: dict[str, Any], resources: Resources, changes: dict[str, Any], complaint: str
) -> None:
    from dataclasses import replace

    mode = changes.pop("mode", preparation.RESTART)
    with pytest.raises(MillraceError, match=complaint):
        prepared(replace(resources, **changes), config, mode)


def test_what_another_run_uses_is_not_touched(config: dict[str, Any], resources: Resources, tmp_path: Path) -> None:
    prepared(resources, config, "restart")
    records.send(config, "flow-input", "k", b"v")
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(600)")
    get_target().start_job(JobSpec("flow-replay", "sleeper", env={"PYTHONPATH": str(tmp_path)}), "dag/other")
    with pytest.raises(OwnedByAnotherError, match="flow-replay is still run by dag/other"):
        prepared(resources, config, "restart")
    assert kafka.count_records(config, "flow-input") == 1
    prepared(resources, config, "restart", owner="dag/other")  # Its own is stopped first.
    assert get_target().job_status("flow-replay").state == "STOPPED"
    assert kafka.count_records(config, "flow-input") == 0
