"""Replay and simulation into a real broker: exactly once, whatever interrupts them."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic

from ingest.contracts import load
from ingest.flights import DateRange, FlightEvent, load_events
from ingest.kafka import partition_of
from tests.topics import admin_of, create_topics, delete_topics

pytestmark = pytest.mark.embedded

PARTITIONS = 6
DAYS = 2
# Two days at this pace take about 9 seconds: time enough to interrupt them in the middle.
SLOW = ("--pace", "20000")


@pytest.fixture
def topic(broker) -> Iterator[str]:
    name = f"replay-{uuid.uuid4().hex[:12]}"
    create(broker, name)
    yield name
    delete(broker, name)


@pytest.fixture(scope="module")
def events() -> list[FlightEvent]:
    return load_events(DateRange(date(2013, 1, 1), DAYS))


def create(broker, name: str, **config: str) -> None:
    create_topics(broker.bootstrap_servers, NewTopic(name, PARTITIONS, 1, config=config))
    wait_for(lambda: readable(broker, name))


def readable(broker, name: str) -> bool:
    """Return whether the broker knows itself to lead the topic's partitions, a moment after its creation."""
    try:
        return sizes(broker, name) == [0] * PARTITIONS
    except KafkaException:
        return False


def delete(broker, name: str) -> None:
    delete_topics(broker.bootstrap_servers, name)


def command(broker, topic: str, *arguments: str, feed: str = "replay") -> list[str]:
    servers = ["--bootstrap-servers", broker.bootstrap_servers, "--topic", topic]
    days = ["--days", str(DAYS)] if feed == "replay" and "--days" not in arguments else []
    return [sys.executable, "-m", "ingest", feed, *servers, *days, *arguments]


def run(broker, topic: str, *arguments: str, feed: str = "replay") -> subprocess.CompletedProcess[str]:
    line = command(broker, topic, *arguments, feed=feed)
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=180)


@contextmanager
def started(broker, topic: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a replay in the background; it is gone at the end of the block."""
    line = command(broker, topic, *arguments)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def summary(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def sizes(broker, topic: str) -> list[int]:
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "test-sizes"})
    try:
        partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        return [consumer.get_watermark_offsets(one, timeout=30)[1] for one in partitions]
    finally:
        consumer.close()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.1)


def wait_for_records(broker, topic: str, more_than: float) -> None:
    wait_for(lambda: sum(sizes(broker, topic)) > more_than)


def records(broker, topic: str, partitions: int = PARTITIONS) -> list[Message]:
    ends = sum(sizes(broker, topic))
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "test-records"})
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    found: list[Message] = []
    try:
        deadline = time.monotonic() + 60
        while len(found) < ends:
            assert time.monotonic() < deadline
            found += consumer.consume(num_messages=min(ends - len(found), 10_000), timeout=1.0)
    finally:
        consumer.close()
    assert all(message.error() is None for message in found)
    return found


def assert_whole(broker, topic: str, events: list[FlightEvent]) -> None:
    """Each event is there once, in its key's partition and in order; one heartbeat ends each partition."""
    by_partition: dict[int, list[Message]] = {p: [] for p in range(PARTITIONS)}
    for message in records(broker, topic):
        by_partition[message.partition()].append(message)
    wanted: dict[int, list[bytes]] = {p: [] for p in range(PARTITIONS)}
    for event in events:
        key = event.event_id.encode()
        wanted[partition_of(key, PARTITIONS)].append(key)
    for partition, messages in by_partition.items():
        assert [m.key() for m in messages[:-1]] == wanted[partition]
        heartbeat = json.loads(messages[-1].value())
        assert heartbeat["event_type"] == "heartbeat"
        assert heartbeat["event_time"] > events[-1].message()["event_time"]


def test_two_days_are_replayed_once_and_a_second_start_adds_nothing(broker, topic, events, tmp_path):
    status = tmp_path / "status.json"
    first = summary(run(broker, topic, "--status-file", str(status)))
    assert first == json.loads(status.read_text())
    assert first["state"] == "complete"
    assert first["sent"] == len(events) + PARTITIONS
    assert first["already_there"] == 0
    assert first["last_event_time"] == events[-1].message()["event_time"]
    assert [first["end_offsets"][str(p)] for p in range(PARTITIONS)] == sizes(broker, topic)
    assert_whole(broker, topic, events)
    by_key = {event.event_id.encode(): event.message() for event in events}
    position = {event.event_id.encode(): b"%d" % n for n, event in enumerate(events)}
    for message in records(broker, topic):
        headers = dict(message.headers())
        assert headers["replay-range"] == b"2013-01-01+2"
        if message.key() in by_key:
            assert json.loads(message.value()) == by_key[message.key()]
            assert headers["replay-sequence"] == position[message.key()]
    second = summary(run(broker, topic))
    assert (second["sent"], second["already_there"]) == (0, first["sent"])
    assert second["end_offsets"] == first["end_offsets"]


def test_a_killed_replay_continues_exactly_where_it_was(broker, topic, events):
    for share in (0.2, 0.6):
        with started(broker, topic, *SLOW) as process:
            wait_for_records(broker, topic, share * len(events))
            process.send_signal(signal.SIGKILL)
            assert process.wait(30) == -signal.SIGKILL
        assert sum(sizes(broker, topic)) < len(events), "it was killed too late to show anything"
    done = summary(run(broker, topic))
    assert done["already_there"] > 0.6 * len(events)
    assert done["sent"] + done["already_there"] == len(events) + PARTITIONS
    assert_whole(broker, topic, events)


def test_a_replay_killed_at_full_speed_continues(broker, topic):
    days = 90
    range_of_days = ("--days", str(days))
    with started(broker, topic, *range_of_days) as process:
        wait_for_records(broker, topic, 1000)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    done = summary(run(broker, topic, *range_of_days))
    assert done["already_there"] > 1000
    assert_whole(broker, topic, load_events(DateRange(date(2013, 1, 1), days)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_and_a_later_start_continues(broker, topic, events, number):
    with started(broker, topic, *SLOW) as process:
        wait_for_records(broker, topic, 300)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped by signal {int(number)}; start it again" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    stopped = json.loads(output.splitlines()[-1])
    assert stopped["state"] == "stopped"
    assert stopped["sent"] == sum(sizes(broker, topic)) > 300  # everything queued was sent
    assert summary(run(broker, topic))["already_there"] == stopped["sent"]
    assert_whole(broker, topic, events)


def test_it_outlasts_a_killed_and_restarted_broker(broker, topic, events):
    with started(broker, topic, *SLOW) as process:
        wait_for_records(broker, topic, 300)
        broker.kill()
        try:
            assert process.poll() is None
        finally:
            broker.restart()
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["sent"] == len(events) + PARTITIONS
    assert_whole(broker, topic, events)


def test_a_broker_that_is_away_too_long_is_a_failure_and_a_later_start_continues(broker, topic, events):
    with started(broker, topic, *SLOW, "--delivery-timeout", "2") as process:
        wait_for_records(broker, topic, 300)
        broker.kill()
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            broker.restart()
    assert process.returncode == 1
    assert "acknowledged nothing for 2 s" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    summary(run(broker, topic))
    assert_whole(broker, topic, events)


def test_another_range_is_refused(broker, topic):
    summary(run(broker, topic, "--days", "1"))
    before = sizes(broker, topic)
    done = run(broker, topic, "--days", "2")
    assert done.returncode == 2
    assert "holds the range 2013-01-01+1, not 2013-01-01+2" in done.stderr.splitlines()[-1]
    assert sizes(broker, topic) == before


def test_a_second_replay_at_the_same_time_is_refused(broker, topic, events):
    with started(broker, topic, *SLOW) as process:
        wait_for_records(broker, topic, 300)
        second = run(broker, topic)
        assert process.poll() is None, "the first ended too early to show anything"
        assert second.returncode == 2
        assert "another replay is writing" in second.stderr.splitlines()[-1]
        output, _ = process.communicate(timeout=120)
    assert json.loads(output.splitlines()[-1])["sent"] == len(events) + PARTITIONS
    assert_whole(broker, topic, events)


def test_records_of_others_behind_its_own_do_not_disturb_it(broker, topic, events):
    with started(broker, topic, *SLOW) as process:
        wait_for_records(broker, topic, 300)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for partition in range(PARTITIONS):
        for number in range(150):
            producer.produce(topic, b"not JSON %d" % number, None, partition)
    assert producer.flush(30) == 0
    done = summary(run(broker, topic))
    assert done["sent"] + done["already_there"] == len(events) + PARTITIONS
    counts = Counter(message.key() for message in records(broker, topic))
    assert counts.pop(None) == 150 * PARTITIONS
    assert set(counts.values()) == {1}
    assert len(counts) == len(events) + PARTITIONS


def test_a_changed_number_of_partitions_is_refused(broker, topic):
    summary(run(broker, topic, "--days", "1"))
    admin = admin_of(broker.bootstrap_servers)
    admin.create_partitions([NewPartitions(topic, PARTITIONS + 1)])[topic].result(30)
    wait_for(lambda: len(admin.list_topics(timeout=30).topics[topic].partitions) == PARTITIONS + 1)
    done = run(broker, topic, "--days", "1")
    assert done.returncode == 2
    assert "the number of partitions or the data set has changed" in done.stderr.splitlines()[-1]


def test_a_missing_topic_is_named_and_not_created(broker):
    name = f"missing-{uuid.uuid4().hex[:12]}"
    done = run(broker, name)
    assert done.returncode == 2
    assert f"the topic {name} doesn't exist" in done.stderr.splitlines()[-1]
    assert name not in admin_of(broker.bootstrap_servers).list_topics(timeout=30).topics


def test_a_message_that_the_broker_refuses_is_a_failure_without_a_gap(broker):
    name = f"small-{uuid.uuid4().hex[:12]}"
    create(broker, name, **{"max.message.bytes": "200"})
    done = run(broker, name)
    assert done.returncode == 1
    assert "could not be delivered" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert sum(sizes(broker, name)) == 0
    delete(broker, name)


@pytest.mark.parametrize(("feed", "contract"), [("simulate-events", "events"), ("simulate-market", "market-data")])
def test_simulated_messages_arrive_in_their_partitions_at_their_rate(broker, topic, feed, contract):
    began = time.monotonic()
    done = summary(run(broker, topic, "--rate", "200", "--seconds", "2", feed=feed))
    assert time.monotonic() - began > 1.9  # the last of 400 messages is due 1.995 s after the first
    assert done["state"] == "complete"
    assert done["sent"] == 400
    messages = records(broker, topic)
    assert len(messages) == 400
    for message in messages:
        decoded = json.loads(message.value())
        load(contract).check(decoded)
        assert message.partition() == partition_of(message.key(), PARTITIONS)
    again = summary(run(broker, topic, "--rate", "200", "--count", "400", "--fast", feed=feed))
    assert again["sent"] == 400
    values = Counter(message.value() for message in records(broker, topic))
    assert set(values.values()) == {2}


def test_the_package_runs_without_a_home_or_a_terminal(broker, topic, tmp_path: Path):
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path.cwd()),
        "HOME": str(tmp_path / "nowhere"),
    }
    done = subprocess.run(
        command(broker, topic, "--days", "1"),
        capture_output=True, text=True, check=False, timeout=120, env=environment, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert summary(done)["state"] == "complete"
