"""Apps, feeds and DAG library on a broker secured as in the cluster, with the very rights that the chart gives."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic
from deltalake import DeltaTable

from embedded.broker import BrokerSettings
from embedded.paths import REPOSITORY
from embedded.ports import free_port
from millrace import heartbeat, records
from millrace import kafka as dag_kafka
from millrace.errors import MillraceError
from tests.charts.render import by_name, render_chart
from tests.embedded.secured_broker import SecuredBroker
from tests.embedded.spark_driver import Driver, Topics, message, windows_of
from tests.topics import create_topics

pytestmark = pytest.mark.embedded

DAY = datetime(2013, 1, 1)
PARTITIONS = 3
TOPICS = ("events", "event-windows", "events-dead-letter", "input-topic")


class Cluster:
    """The secured broker, with the chart's users and the topics of event-windows."""

    def __init__(self, broker: SecuredBroker) -> None:
        self.broker = broker
        self.passwords: dict[str, str] = {}
        for name, user in by_name(render_chart(), "KafkaUser").items():
            # With what JAAS and shells treat specially: passwords are made by others.
            self.passwords[name] = secrets.token_hex(8) + "\"\\'$ ;"
            broker.add_user(name, self.passwords[name], user["spec"]["authorization"]["acls"])

    def make_topics(self) -> None:
        """Make every topic anew, so that no test sees another's records."""
        config = {"bootstrap.servers": self.broker.bootstrap_servers}
        dag_kafka.delete_topics(config, TOPICS)
        create_topics(self.broker.bootstrap_servers, *(NewTopic(name, PARTITIONS, 1) for name in TOPICS))

    def environment(self, user: str, **changes: str) -> dict[str, str]:
        """What a pod of that user gets."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.broker.secured_servers,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_USERNAME": user,
            "KAFKA_PASSWORD": self.passwords[user],
            "KAFKA_SSL_CA_LOCATION": str(self.broker.authority),
        } | changes

    def connection(self, user: str) -> dict[str, Any]:
        """The extra of the Airflow connection `kafka_default` of that user."""
        return {
            "bootstrap.servers": self.broker.secured_servers,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": self.passwords[user],
            "ssl.ca.location": str(self.broker.authority),
        }


@pytest.fixture
def cluster(secured: Cluster) -> Cluster:
    secured.make_topics()
    return secured


@pytest.fixture(scope="module")
def secured(java, kafka_jars) -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="millrace-test-secured-"))
    broker = SecuredBroker(
        BrokerSettings(
            java=java,
            jars=kafka_jars,
            directory=directory,
            port=free_port(),
            controller_port=free_port(),
            log_file=directory / "kafka.log",
            short_lived=True,
        )
    )
    try:
        broker.start()
        yield Cluster(broker)
    finally:
        broker.kill()
        shutil.rmtree(directory, ignore_errors=True)


def ingest(cluster: Cluster, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
    return subprocess.run(
        [sys.executable, "-m", "ingest", *arguments],
        env=kept | cluster.environment("ingest") | environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def app(cluster, spark_jars, java_home, submit_options, tmp_path) -> Iterator[Driver]:
    """event-windows under its own user, with the topics and settings of the cluster."""
    topics: Topics = object.__new__(Topics)
    topics.events, topics.windows, topics.dead = TOPICS[:3]
    topics.servers = cluster.broker.bootstrap_servers  # the test itself reads as super user
    made = Driver(topics, spark_jars, java_home, submit_options, tmp_path / "storage")
    made.environment = cluster.environment("event-windows")
    yield made
    made.kill()


def test_event_windows_runs_with_the_rights_of_its_user_alone(cluster, app):
    producer = Producer({"bootstrap.servers": cluster.broker.bootstrap_servers})
    events = [(DAY + timedelta(minutes=minute), "departed") for minute in range(30)]
    for partition in range(PARTITIONS):
        for moment, kind in events if partition == 0 else ():
            producer.produce("events", message(moment, kind), b"k", partition=partition)
        producer.produce("events", b"not JSON", b"k", partition=partition)
        producer.produce("events", message(DAY + timedelta(hours=2), "heartbeat"), b"k", partition=partition)
    producer.flush()
    app.start()
    app.wait_for_watermark(DAY + timedelta(hours=1, minutes=30))
    assert app.stop() == 0
    assert app.delta_windows() == app.kafka_windows() == windows_of(events)
    assert len(app.topics.read(app.topics.dead)) == PARTITIONS
    assert cluster.passwords["event-windows"] not in app.log.read_text()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"KAFKA_PASSWORD": "wrong"}, "refuses the user"),
        ({"KAFKA_PASSWORD": ""}, "set KAFKA_USERNAME and KAFKA_PASSWORD"),
        ({"KAFKA_SSL_CA_LOCATION": "/nowhere/ca.crt"}, "/nowhere/ca.crt cannot be read"),
        ({"KAFKA_SSL_CA_LOCATION": ""}, "no certificate that is trusted"),
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "expected one of PLAINTEXT, SSL"),
    ],
)
def test_an_app_says_what_is_wrong_with_its_credentials(cluster, app, changes, sentence):
    app.environment |= changes
    app.start()
    assert app.wait() in (1, 2)
    [error] = app.messages("ERROR")
    assert sentence in error
    assert "Traceback" not in app.log.read_text()


def test_a_topic_outside_its_rights_is_refused(cluster, app):
    app.overrides = ["source.topic=input-topic"]
    app.start()
    assert app.wait() == 1
    [error] = app.messages("ERROR")
    assert "topic input-topic" in error
    assert "may not be read" in error


def test_the_feed_replays_with_the_rights_of_its_user_alone(cluster):
    config = {"bootstrap.servers": cluster.broker.bootstrap_servers}
    for _ in range(2):  # the second one looks at what is there, which needs the right to read
        replayed = ingest(cluster, "replay", "--days=1")
        assert replayed.returncode == 0, replayed.stderr
        assert dag_kafka.count_records(config, "events") == sum(json.loads(replayed.stdout)["end_offsets"].values())


def test_a_topic_is_kept_in_a_table_with_the_rights_of_the_user_alone(cluster, tmp_path):
    assert ingest(cluster, "simulate-events", "--count=50", "--fast").returncode == 0
    kept = ingest(cluster, "persist", "--topic=events", f"--to={tmp_path / 'table'}", "--until-end")
    assert kept.returncode == 0, kept.stderr
    assert json.loads(kept.stdout)["written"] == DeltaTable(str(tmp_path / "table")).count() == 50


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "sentence"),
    [
        ((), {"KAFKA_PASSWORD": "wrong"}, 2, "refuses the user"),
        ((), {"KAFKA_PASSWORD": ""}, 2, "set KAFKA_USERNAME and KAFKA_PASSWORD"),
        ((), {"KAFKA_SSL_CA_LOCATION": "/nowhere/ca.crt"}, 2, "/nowhere/ca.crt, which doesn't exist"),
        ((), {"KAFKA_SECURITY_PROTOCOL": "TLS"}, 2, "KAFKA_SECURITY_PROTOCOL is 'TLS'"),
        (("--topic=event-windows",), {}, 2, "the topic event-windows doesn't exist"),
    ],
)
def test_a_feed_says_what_is_wrong_with_its_credentials(cluster, arguments, changes, code, sentence):
    result = ingest(cluster, "simulate-events", "--count=1", "--fast", *arguments, **changes)
    assert result.returncode == code
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_airflow_makes_and_deletes_topics_with_the_rights_of_its_user_alone(cluster, monkeypatch):
    connection = SimpleNamespace(extra_dejson=cluster.connection("airflow"))
    monkeypatch.setattr("airflow.sdk.Connection.get", lambda _: connection)
    config = dag_kafka.connection_config()
    assert len(dag_kafka.check_broker(config)["brokers"]) == 1
    spec = dag_kafka.TopicSpec("made-by-airflow", 2, {"retention.ms": "60000"})
    assert dag_kafka.create_topics(config, [spec]) == ["made-by-airflow"]
    assert dag_kafka.delete_topics(config, ["made-by-airflow"]) == ["made-by-airflow"]


def test_airflow_reads_a_stream_s_topics_and_repeats_heartbeats_with_the_rights_of_its_user_alone(cluster, monkeypatch):
    connection = SimpleNamespace(extra_dejson=cluster.connection("airflow"))
    monkeypatch.setattr("airflow.sdk.Connection.get", lambda _: connection)
    config = dag_kafka.connection_config()
    before = dag_kafka.count_records(config, "events")
    assert len(heartbeat.send_heartbeats(config, "events", "2013-01-01T10:00:00Z")) == PARTITIONS
    assert len(list(records.read_topic(config, "events"))) == before + PARTITIONS
    with pytest.raises(MillraceError, match="did not take a record"):
        records.send(config, "event-windows", "k", b"not its business", timeout=10)


def test_airflow_is_told_that_its_password_is_wrong(cluster, monkeypatch):
    connection = SimpleNamespace(extra_dejson=cluster.connection("airflow") | {"sasl.password": "wrong"})
    monkeypatch.setattr("airflow.sdk.Connection.get", lambda _: connection)
    with pytest.raises(MillraceError):
        dag_kafka.check_broker(dag_kafka.connection_config())
