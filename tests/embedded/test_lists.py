"""Finite feeds into a real broker: each message once, whatever interrupts them."""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer

from embedded.broker import Broker
from ingest.lists import orders
from millrace import kafka, records
from millrace.kafka import TopicSpec

pytestmark = pytest.mark.embedded


@pytest.fixture
def config(broker: Broker) -> dict[str, Any]:
    return {"bootstrap.servers": broker.bootstrap_servers}


@pytest.fixture
def topic(config: dict[str, Any]) -> Iterator[str]:
    name = f"lists-{uuid.uuid4().hex[:12]}"
    kafka.create_topics(config, [TopicSpec(name, 3, {})])
    yield name
    kafka.delete_topics(config, [name])


def command(config: dict[str, Any], topic: str, *arguments: str) -> list[str]:
    place = ["--bootstrap-servers", config["bootstrap.servers"], "--topic", topic]
    return [sys.executable, "-m", "ingest", *arguments, *place]


def run(config: dict[str, Any], topic: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(command(config, topic, *arguments), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_people_are_sent_once_and_new_ones_are_added(config: dict[str, Any], topic: str) -> None:
    first = run(config, topic, "people")
    assert (first["state"], first["sent"], first["already_there"]) == ("complete", 5, 0)
    assert sum(first["end_offsets"].values()) == 5
    again = run(config, topic, "people", "--people", "Frank=44")
    assert (again["sent"], again["already_there"], sum(again["end_offsets"].values())) == (1, 5, 6)
    names = [json.loads(record.value())["name"] for record in records.read_topic(config, topic)]
    assert sorted(names) == ["Alice", "Bob", "Charlie", "Diana", "Eve", "Frank"]


def test_orders_that_were_killed_and_stopped_on_the_way_are_there_once(config: dict[str, Any], topic: str) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        before = kafka.count_records(config, topic)
        slow = command(config, topic, "orders", "--count", "2000", "--rate", "200")
        process = subprocess.Popen(slow, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 60
            while kafka.count_records(config, topic) <= before:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            process.send_signal(number)
            assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    there = kafka.count_records(config, topic)
    last = run(config, topic, "orders", "--count", "2000")
    assert 0 < last["already_there"] == there < 2000
    sent = Counter(record.key().decode() for record in records.read_topic(config, topic))
    assert sent == Counter(order["order_id"] for order in orders(2000, 1))


def test_a_topic_that_somebody_writes_to_is_left_alone(config: dict[str, Any], topic: str) -> None:
    producer = Producer(config)
    producer.produce(topic, b"{}", b"other")
    producer.flush(30)
    process = subprocess.Popen(command(config, topic, "people"), stderr=subprocess.PIPE, text=True)
    try:
        while process.poll() is None:
            producer.produce(topic, b"{}", b"other")
            producer.flush(30)
            time.sleep(0.01)
    finally:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"somebody else is writing to {topic}" in said
