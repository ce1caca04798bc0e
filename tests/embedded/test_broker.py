"""The broker as a process: it starts, refuses taken ports, and keeps its data whatever happens to it."""

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from embedded.broker import Broker, BrokerSettings
from embedded.errors import UserError
from embedded.java import Java
from embedded.ports import free_port
from tests.topics import admin_of, create_topics

pytestmark = pytest.mark.embedded


@pytest.fixture
def own_broker(java: Java, kafka_jars: Path, tmp_path: Path) -> Iterator[Broker]:
    """A broker for one test, not started."""
    settings = BrokerSettings(java, kafka_jars, tmp_path / "kafka", free_port(), free_port(), tmp_path / "kafka.log")
    broker = Broker(settings)
    yield broker
    broker.kill()


def produce(broker: Broker, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "acks": "all"})
    for number in range(count):
        producer.produce(topic, str(number).encode())
    assert producer.flush(30) == 0


def read_all(broker: Broker, topic: str, count: int) -> list[int]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "test", "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    try:
        messages = consumer.consume(count, timeout=30)
        return [int(message.value()) for message in messages if message.error() is None]
    finally:
        consumer.close()


def create(broker: Broker, topic: str) -> None:
    create_topics(broker.bootstrap_servers, NewTopic(topic, 1))


def test_a_cluster_id_that_begins_with_a_hyphen_is_no_option(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One id in 64 does, and Kafka's tool took it for an option."""
    monkeypatch.setattr("embedded.broker.uuid.uuid4", lambda: uuid.UUID(bytes=b"\xf8" + bytes(15)))
    own_broker.start()
    assert own_broker.answers()


def test_data_survive_a_kill_and_a_restart(own_broker: Broker) -> None:
    own_broker.start()
    create(own_broker, "kept")
    produce(own_broker, "kept", 1000)
    own_broker.kill()
    assert not own_broker.running
    own_broker.start()
    assert read_all(own_broker, "kept", 1000) == list(range(1000))
    own_broker.restart()
    assert read_all(own_broker, "kept", 1000) == list(range(1000))


def test_data_survive_a_change_of_ports(own_broker: Broker, java: Java, kafka_jars: Path) -> None:
    own_broker.start()
    create(own_broker, "kept")
    produce(own_broker, "kept", 10)
    own_broker.stop()
    old = own_broker.settings
    moved = Broker(BrokerSettings(java, kafka_jars, old.directory, free_port(), free_port(), old.log_file))
    try:
        moved.start()
        assert read_all(moved, "kept", 10) == list(range(10))
    finally:
        moved.kill()


def test_topics_are_not_created_by_accident(broker: Broker) -> None:
    metadata = admin_of(broker.bootstrap_servers).list_topics("misspelt", timeout=10)
    assert metadata.topics["misspelt"].error is not None


def test_listens_on_loopback_only(broker: Broker) -> None:
    listeners = (broker.settings.directory / "server.properties").read_text()
    assert f"listeners=PLAINTEXT://127.0.0.1:{broker.settings.port},CONTROLLER://127.0.0.1:" in listeners


def test_taken_port_names_its_holder_and_the_setting(own_broker: Broker) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", own_broker.settings.port))
        holder.listen()
        with pytest.raises(UserError) as error:
            own_broker.start()
    message = str(error.value)
    assert str(own_broker.settings.port) in message
    assert f"process {os.getpid()}" in message
    assert "KAFKA_PORT" in message
    assert not own_broker.running


def test_a_broker_that_cannot_start_says_why(own_broker: Broker) -> None:
    (own_broker.settings.directory / "data").mkdir(parents=True)
    (own_broker.settings.directory / "data" / "meta.properties").write_text("version=1\nnode.id=77\ncluster.id=abc\n")
    with pytest.raises(UserError, match=r"Kafka ended while it started: .*node.id") as error:
        own_broker.start()
    assert str(own_broker.settings.log_file) in str(error.value)
