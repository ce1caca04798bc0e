"""Feeds as processes: from local servers that speak their sources' protocols into a real broker."""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import NewTopic
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.server import ServerConnection

from embedded.broker import Broker
from embedded.ports import free_port
from ingest import simulate
from ingest.simulate import SimulationSettings
from tests.embedded.conftest import wait_until
from tests.topics import create_topics, delete_topics
from tests.unit.ingest.feeds.sources import (
    Answer,
    Request,
    binance,
    binance_trade,
    break_off,
    historical_trades,
    rest,
    stay,
    stream,
)

pytestmark = pytest.mark.embedded

PARTITIONS = 3
QUICK = ("retry.backoff_seconds=0.05", "retry.backoff_max_seconds=0.2", "refill.http.requests_per_second=1000")


@dataclass
class Target:
    """A topic of a test's own, its dead-letter topic, and the broker that has them."""

    broker: Broker
    topic: str

    @property
    def dead(self) -> str:
        return f"{self.topic}-dead-letter"

    def records(self, topic: str) -> list[Message]:
        """All records of a topic, by partition, each partition in its order."""
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap_servers, "group.id": "test-feeds"})
        try:
            partitions = [TopicPartition(topic, p, 0) for p in range(PARTITIONS)]
            ends = [consumer.get_watermark_offsets(each, timeout=30)[1] for each in partitions]
            consumer.assign(partitions)
            found: list[Message] = []
            deadline = time.monotonic() + 60
            while len(found) < sum(ends):
                assert time.monotonic() < deadline
                found += consumer.consume(sum(ends) - len(found), timeout=1.0)
        finally:
            consumer.close()
        assert all(record.error() is None for record in found)
        return sorted(found, key=lambda record: (record.partition(), record.offset()))

    def readable(self) -> bool:
        """Whether the broker knows itself to lead the topics' partitions, a moment after their creation."""
        try:
            return self.records(self.topic) == self.records(self.dead) == []
        except KafkaException:
            return False

    def count(self) -> int:
        return len(self.records(self.topic))

    def numbers(self) -> list[int]:
        """The numbers of the trades that the topic holds, in its order."""
        return [int(json.loads(each.value())["event_id"].rpartition(":")[2]) for each in self.records(self.topic)]


@pytest.fixture
def target(broker: Broker) -> Iterator[Target]:
    found = Target(broker, f"feeds-{uuid.uuid4().hex[:12]}")
    names = [found.topic, found.dead]
    create_topics(broker.bootstrap_servers, *(NewTopic(name, PARTITIONS, 1) for name in names))
    wait_until(found.readable, 60)
    yield found
    delete_topics(broker.bootstrap_servers, *names)


class Feed:
    """`python -m ingest feed`, started by a test."""

    def __init__(self, target: Target, name: str, settings: tuple[str, ...], *arguments: str) -> None:
        self.port = free_port()
        options = [part for each in settings for part in ("--set", each)]
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "ingest", "feed", name, "--bootstrap-servers", target.broker.bootstrap_servers,
                "--topic", target.topic, "--metrics-port", str(self.port), *options, *arguments,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._errors: list[str] = []
        # What is logged is read all the time: a full pipe would stop the feed.
        self._reader = threading.Thread(target=lambda: self._errors.extend(self.process.stderr or []), daemon=True)
        self._reader.start()

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            assert self.process.poll() is None, self.errors()
            return 0, ""

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Samples by name and values of the labels, except those of the feed and the topic."""
        found = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for each in family.samples:
                others = [value for label, value in sorted(each.labels.items()) if label not in ("feed", "topic")]
                found[each.name, *others] = each.value
                assert not each.labels.get("topic", "").endswith("-dead-letter")  # an alert would find it silent
        return found

    def sent(self) -> float:
        return self.metrics().get(("ingest_messages_total",), 0.0)

    def end(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Stop it as Kubernetes does; return its summary and its log, of which each line is JSON."""
        self.process.send_signal(signal.SIGTERM)
        return self.finish()

    def finish(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        status = self.process.wait(60)
        self._reader.join(10)
        assert status == 0, self.errors()
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.read().splitlines()[-1]), [json.loads(line) for line in self._errors]

    def errors(self) -> str:
        return "".join(self._errors)


@contextmanager
def started(target: Target, name: str, *settings: str, arguments: tuple[str, ...] = ()) -> Iterator[Feed]:
    feed = Feed(target, name, settings, *arguments)
    try:
        yield feed
    finally:
        if feed.process.poll() is None:
            feed.process.kill()
            feed.process.wait()


def holds(target: Target, number: int) -> bool:
    return target.count() >= number


def trades(first: int, last: int) -> list[dict[str, Any]]:
    return [binance_trade(number) for number in range(first, last + 1)]


def headers(record: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers() or []}


def test_a_stream_is_resumed_bad_records_are_dead_letters_and_all_of_it_is_told(target):
    oversized = json.dumps(binance_trade(51, padding="x" * 100_000))
    bad = ["{garbage", oversized, binance_trade(52, p="-1")]
    cut = binance(*trades(1, 50), *bad, then=break_off)
    with (
        stream(cut, binance(*trades(60, 70))) as source,
        rest(historical_trades(200)) as history,
        started(target, "binance-btc-usdt", f"websocket.url={source.url}", f"refill.url={history.url}", *QUICK) as feed,
    ):
        wait_until(lambda: feed.sent() >= 68, 60)
        assert feed.get("/healthz")[0] == 200
        assert feed.get("/readyz")[0] == 200
        metrics = feed.metrics()
        summary, log = feed.end()

    assert target.numbers() == [*range(1, 51), *range(53, 71)]  # in order, none lost, none twice
    assert {headers(record)["feed"] for record in target.records(target.topic)} == {"binance-btc-usdt"}
    assert {record.key() for record in target.records(target.topic)} == {b"BTC/USDT"}
    letters = {headers(record)["reason"].partition(":")[0]: record for record in target.records(target.dead)}
    assert list(letters) == ["malformed", "oversized", "market-data v1"]
    assert letters["malformed"].value() == b"{garbage"
    assert letters["oversized"].value() == oversized.encode()[:65536]
    assert headers(letters["oversized"])["truncated-from"] == str(len(oversized))
    assert json.loads(letters["market-data v1"].value()) == binance_trade(52, p="-1")
    for record in letters.values():
        assert headers(record)["source"] == "binance-btc-usdt"
        assert headers(record)["source-timestamp"].endswith("+00:00")

    assert metrics["ingest_messages_total",] == 68
    assert metrics["ingest_bytes_total",] > 68 * 100
    assert metrics["ingest_newest_event_time_seconds",] == 1_700_000_000 + 70 * 0.25
    assert metrics["ingest_source_errors_total", "disconnected"] == 1
    assert metrics["ingest_connections_total",] == 2
    assert metrics["ingest_breaker_state",] == 0
    assert metrics["ingest_ready",] == 1
    assert {metrics["ingest_dead_letters_total", kind] for kind in ("malformed", "oversized", "invalid")} == {1}
    assert summary == summary | {"state": "complete", "sent": 68, "dead_letters": 3, "connections": 2}
    assert summary["last_event_time"] == "2023-11-14T22:13:37.500Z"
    assert {"connected", "source failed", "dead letter", "progress"} <= {line["message"] for line in log}


def test_a_killed_feed_continues_behind_what_the_topic_holds(target):
    with rest(historical_trades(200)) as history:
        for first in (1, 31):
            with (
                stream(binance(*trades(first, first + 9))) as source,
                started(
                    target, "binance-btc-usdt", f"websocket.url={source.url}", f"refill.url={history.url}", *QUICK
                ) as feed,
            ):
                wait_until(partial(holds, target, first + 9), 60)
                feed.process.kill()
                feed.process.wait()
    assert target.numbers() == list(range(1, 41))


def test_sigterm_sends_what_is_queued(target):
    with (
        stream(binance(*trades(1, 300))) as source,
        started(target, "binance-btc-usdt", f"websocket.url={source.url}", arguments=("--linger-ms", "60000")) as feed,
    ):
        wait_until(lambda: feed.sent() >= 300, 60)
        assert target.count() == 0  # all of it waits in the producer
        summary, _ = feed.end()
    assert summary["sent"] == 300
    assert target.numbers() == list(range(1, 301))


def test_the_breaker_opens_while_a_source_fails_and_closes_when_it_works(target):
    works = threading.Event()

    def answer(_request: Request) -> Answer:
        return Answer({"date": "2026-11-20", "rates": {"USD": 1.15}}) if works.is_set() else Answer({}, 500)

    with rest(answer) as source:
        settings = (
            f"url={source.url}", "interval_seconds=0.2", "http.requests_per_second=100", "retry.backoff_seconds=0.01",
            "retry.breaker_failures=3", "retry.breaker_open_seconds=2",
        )  # fmt: skip
        with started(target, "eur-usd", *settings) as feed:
            wait_until(lambda: feed.get("/metrics")[0] and feed.metrics()["ingest_breaker_state",] == 2, 60)
            assert len(source.requests) == 3  # an open breaker lets nothing through
            assert feed.get("/readyz")[0] == 503
            assert feed.get("/healthz")[0] == 200
            wait_until(lambda: len(source.requests) > 3, 60)  # one attempt, which fails
            wait_until(lambda: feed.metrics()["ingest_breaker_state",] == 2, 60)
            assert len(source.requests) == 4
            works.set()
            wait_until(lambda: feed.get("/readyz")[0] == 200, 60)
            assert feed.metrics()["ingest_breaker_state",] == 0
            assert feed.metrics()["ingest_source_errors_total", "http_5xx"] == 4
            wait_until(lambda: target.count() == 1, 60)
            feed.end()
    (record,) = target.records(target.topic)
    assert json.loads(record.value())["event_id"] == "frankfurter:EUR/USD:2026-11-20"


def test_the_simulator_ends_at_its_count_and_continues_later(target):
    settings = ("rate=2000", "seed=9", "start_time=2024-01-01T00:00:00Z")
    for _ in range(2):
        with started(target, "market-simulator", *settings, arguments=("--count", "150")) as feed:
            summary, _ = feed.finish()
            assert summary["sent"] == 150
    simulated = simulate.market(SimulationSettings(seed=9, rate=2000, count=300))
    found = [json.loads(record.value()) for record in target.records(target.topic)]
    assert sorted(found, key=lambda each: int(each["event_id"].rpartition("/")[2])) == list(simulated)


def refusal(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "ingest", "feed", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


def test_what_cant_be_done_is_one_sentence_and_status_2(target):
    servers = ("--bootstrap-servers", target.broker.bootstrap_servers)
    name = f"missing-{uuid.uuid4().hex[:12]}"
    cases = {
        ("no-such-feed", *servers): "there is no feed no-such-feed: it has binance-btc-usdt",
        ("market-simulator", *servers, "--topic", name): f"the topic {name} doesn't exist",
        ("market-simulator", *servers, "--topic", target.topic, "--set", f"dead_letter_topic={name}"): (
            f"the topic {name} doesn't exist"
        ),
        ("market-simulator", *servers, "--set", "rate=fast"): "feeds.market-simulator.rate: ",
    }
    for arguments, words in cases.items():
        status, errors = refusal(*arguments)
        assert status == 2
        assert words in errors.splitlines()[-1]
        assert "Traceback" not in errors


def test_a_broker_that_is_away_for_a_while_costs_nothing(target):
    go_on = threading.Event()

    def later(connection: ServerConnection) -> None:
        assert go_on.wait(60)
        for each in trades(11, 20):
            connection.send(json.dumps(each))
        stay(connection)

    with (
        stream(binance(*trades(1, 10), then=later)) as source,
        started(target, "binance-btc-usdt", f"websocket.url={source.url}", *QUICK) as feed,
    ):
        wait_until(lambda: target.count() == 10, 60)
        target.broker.kill()
        try:
            go_on.set()
            wait_until(lambda: feed.sent() >= 20, 60)
        finally:
            target.broker.restart()
        wait_until(lambda: target.count() == 20, 60)
        feed.end()
    assert target.numbers() == list(range(1, 21))
