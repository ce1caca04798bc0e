"""Event Hubs' Kafka endpoint, as far as its protocol goes: TLS, SASL PLAIN, the user `$ConnectionString`, and rights
to read one hub and no more.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from embedded.broker import BrokerSettings
from embedded.paths import REPOSITORY
from embedded.ports import free_port
from ingest import contracts, simulate
from tests.embedded.secured_broker import SecuredBroker
from tests.topics import create_topics

pytestmark = pytest.mark.embedded

USER = "$ConnectionString"
KEY = "bm90LWEtcmVhbC1rZXktYXQtYWxs+/c="
WRONG = "Endpoint=sb://{servers}/;SharedAccessKeyName=listen;SharedAccessKey=d3Jvbmc="
LISTEN: list[dict[str, Any]] = [
    {
        "resource": {"type": "topic", "name": "trades", "patternType": "literal"},
        "host": "*",
        "operations": ["Read", "Describe"],
    },
    {
        "resource": {"type": "group", "name": "millrace-market-data", "patternType": "literal"},
        "host": "*",
        "operations": ["Read"],
    },
]
"""What a policy with the right to listen gives."""


class Hubs(SecuredBroker):
    """A broker whose secured listener is the namespace, and whose other listener is our own Kafka."""

    def __init__(self, settings: BrokerSettings) -> None:
        super().__init__(settings)
        self.connection_string = (
            f"Endpoint=sb://{self.secured_servers}/;SharedAccessKeyName=listen;SharedAccessKey={KEY}"
        )
        self.plain_users = {USER: self.connection_string}

    def send(self, events: list[Any]) -> None:
        """Send events to the first two of the hub's partitions; the third holds nothing."""
        producer = Producer({"bootstrap.servers": self.bootstrap_servers})
        for number, event in enumerate(events):
            value = event if isinstance(event, bytes) else json.dumps(event).encode()
            producer.produce("trades", value, partition=number % 2)
        assert producer.flush(30) == 0

    def read(self, topic: str) -> list[dict[str, Any]]:
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": "test"})
        try:
            parts = consumer.list_topics(topic, 30).topics[topic].partitions
            ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 30)[1] for p in parts}
            consumer.assign([TopicPartition(topic, p, 0) for p in parts])
            found = []
            for _ in range(sum(ends.values())):
                record = consumer.poll(30)
                assert record is not None
                assert record.error() is None
                found.append({"value": record.value(), "headers": dict(record.headers() or []), "key": record.key()})
            return found
        finally:
            consumer.close()

    def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "EVENT_HUBS_"))}
        given = {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "EVENT_HUBS_CONNECTION_STRING": self.connection_string,
            "EVENT_HUBS_SSL_CA_LOCATION": str(self.authority),
        }
        line = [sys.executable, "-m", "ingest", "event-hubs", "--until-end", "--session-timeout=6", *arguments]
        environment = kept | given | environment
        done = subprocess.run(
            line, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
        )
        assert KEY not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture(scope="module")
def hubs(java, kafka_jars) -> Iterator[Hubs]:
    directory = Path(tempfile.mkdtemp(prefix="millrace-test-hubs-"))
    broker = Hubs(
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
        broker.allow(USER, LISTEN)
        names = ("trades", "others", "market-data", "market-data-dead-letter")
        create_topics(broker.bootstrap_servers, *(NewTopic(name, 3, 1) for name in names))
        yield broker
    finally:
        broker.kill()
        shutil.rmtree(directory, ignore_errors=True)


def test_events_arrive_by_contract_and_a_later_start_goes_on_where_the_group_stands(hubs):
    market = simulate.market(simulate.SimulationSettings(count=100, fast=True))
    trades = [next(market) for _ in range(41)]
    bare = {"event_type": "trade", "symbol": "BTC/USDT", "price": 1.5}
    hubs.send([*trades[:38], bare, b"not JSON", {"price": -1}])
    first = hubs.run("--event-hub=trades")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout.splitlines()[-1])
    assert (summary["state"], summary["sent"], summary["dead_letters"]) == ("complete", 39, 2)
    messages = [json.loads(each["value"]) for each in hubs.read("market-data")]
    by_id = {message["event_id"]: message for message in messages}
    assert len(by_id) == len(messages) == 39
    assert all(by_id[trade["event_id"]] == trade for trade in trades[:38])
    made = by_id["event-hubs/127/trades/0/19"]
    assert made | bare == made
    contracts.load("market-data").check(made)
    dead = hubs.read("market-data-dead-letter")
    assert {each["headers"]["source-topic"] for each in dead} == {b"trades"}
    assert b"not JSON" in {each["value"] for each in dead}
    assert all(each["headers"]["reason"] for each in dead)

    hubs.send(trades[38:])
    second = hubs.run(EVENT_HUBS_CONNECTION_STRING=f"{hubs.connection_string};EntityPath=trades")
    # The whole string is the password; this one is another, and the broker knows only the first.
    assert second.returncode == 2
    assert "refuses the user" in second.stderr
    third = hubs.run("--event-hub=trades")
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout.splitlines()[-1])["sent"] == 3
    assert len(hubs.read("market-data")) == 42


@pytest.mark.parametrize(
    ("arguments", "changes", "code", "sentences"),
    [
        ((), {"EVENT_HUBS_CONNECTION_STRING": WRONG}, 2, ["refuses the user", "EVENT_HUBS_CONNECTION_STRING"]),
        (("--event-hub=nowhere",), {}, 2, ["nowhere doesn't exist", "correct --event-hub"]),
        (("--event-hub=others",), {}, 2, ["others doesn't exist", "correct --event-hub"]),
        (("--group=somebody-else",), {}, 2, ["may not read trades as a member of somebody-else"]),
        ((), {"EVENT_HUBS_SSL_CA_LOCATION": ""}, 1, ["certificate", "EVENT_HUBS_CONNECTION_STRING"]),
        (("--topic=nowhere", "--contract=market-data"), {}, 2, ["nowhere doesn't exist", "contracts/topics.yaml"]),
    ],
)
def test_what_is_wrong_is_one_sentence(hubs, arguments, changes, code, sentences):
    changes = {name: value.format(servers=hubs.secured_servers) for name, value in changes.items()}
    done = hubs.run("--event-hub=trades", "--connect-timeout=5", *arguments, **changes)
    assert done.returncode == code
    last = done.stderr.splitlines()[-1]
    assert all(sentence in last for sentence in sentences), last
