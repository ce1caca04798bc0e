"""The lineage of a table, end to end: tasks run, OpenLineage sends to a real broker, and the topic is read back."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded.broker import Broker
from millrace import kafka, lineage, records
from millrace.kafka import TopicSpec
from tests.dags.conftest import airflow_database, run_python  # noqa: F401 - a fixture

pytestmark = pytest.mark.embedded

DAG_FILE = """
from airflow.sdk import DAG, Asset, task
from millrace import assets

with DAG("made_of_events") as dag:
    @task(inlets=[assets.topic("events")], outlets=[assets.table("event_windows")])
    def count():
        return 1

    @task(inlets=[assets.table("event_windows")], outlets=assets.both(Asset("event_hours")))
    def aggregate(counted):
        return counted

    @task(inlets=[assets.table("event_hours")], outlets=[assets.model("forecast")])
    def train(hours):
        raise ValueError("on purpose")

    train(aggregate(count()))
"""
CODE = "from made_of_events import dag; print('run:', dag.test().state)"


@pytest.fixture(scope="module")
def topic(broker: Broker) -> Iterator[tuple[dict[str, Any], str]]:
    config, name = {"bootstrap.servers": broker.bootstrap_servers}, f"lineage-{uuid.uuid4().hex[:8]}"
    kafka.create_topics(config, [TopicSpec(name, 1, {})])
    yield config, name
    kafka.delete_topics(config, [name])


@pytest.fixture(scope="module")
def found(
    topic: tuple[dict[str, Any], str],
    airflow_database: dict[str, str],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> lineage.Lineage:
    config, name = topic
    folder: Path = tmp_path_factory.mktemp("dags")
    (folder / "made_of_events.py").write_text(DAG_FILE)
    transport = {"type": "millrace.lineage_transport.ConnectionTransport", "topic": name}
    environment = airflow_database | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join((str(folder), airflow_database["PYTHONPATH"])),
        "AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps({"conn_type": "kafka", "extra": config}),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__EXECUTE_IN_THREAD": "True",
    }
    records.send(config, name, "noise", b"not an event")
    assert "run: failed" in run_python(CODE, environment)
    return lineage.read(config, name)


def test_a_table_is_followed_to_the_topic_it_comes_from(found: lineage.Lineage) -> None:
    steps = found.upstream("delta://event_hours")
    assert [step.job for step in steps] == ["made_of_events.aggregate", "made_of_events.count"]
    assert steps[0].inputs == ("delta://event_windows",)
    assert steps[1].inputs == ("kafka://events",)


def test_a_bad_record_is_counted_and_a_failed_task_made_nothing(found: lineage.Lineage) -> None:
    assert len(found.bad) == 1
    assert found.upstream("model://forecast") == []


def test_the_command_line_says_the_same(
    found: lineage.Lineage, topic: tuple[dict[str, Any], str], capsys: pytest.CaptureFixture[str]
) -> None:
    config, name = topic
    options = ["--bootstrap-servers", config["bootstrap.servers"], "--topic", name]
    assert lineage.main(["delta://event_hours", *options]) == 0
    printed = capsys.readouterr()
    assert "delta://event_windows\n  by made_of_events.count at " in printed.out
    assert "1 records are no events" in printed.err
    assert lineage.main(["delta://nothing", *options]) == 1
    assert "Nothing in " in capsys.readouterr().err
