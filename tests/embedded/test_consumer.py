"""Members of a group on a real broker share, join, leave, pause and are killed: no record is missed or repeated."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import NewTopic
from deltalake import DeltaTable, QueryBuilder

from embedded.broker import Broker
from embedded.paths import REPOSITORY
from embedded.ports import free_port
from ingest import contracts, simulate
from ingest.consumer import Batch, ConsumerSettings, consume
from ingest.consumer_metrics import ConsumerMetrics
from ingest.errors import BadInputError
from ingest.sender import StopRequest
from tests.topics import admin_of, create_topics, delete_topics

pytestmark = pytest.mark.embedded

PARTITIONS = 6
# The shortest session that a broker allows: a member that was killed is missed after it.
SESSION_SECONDS = 6.0
# Each so many messages one is broken: in every partition, so that each member meets some, whichever it gets.
BROKEN = 16 * PARTITIONS + 1


class Topic:
    """A topic of one test's own, with its dead-letter topic."""

    def __init__(self, broker: Broker) -> None:
        self.servers = broker.bootstrap_servers
        self.name = f"consumed-{uuid.uuid4().hex[:12]}"
        self.group = f"{self.name}-group"
        self.dead = f"{self.name}-dead-letter"
        self.admin = admin_of(self.servers)
        create_topics(self.servers, NewTopic(self.name, PARTITIONS, 1), NewTopic(self.dead, 1, 1))
        # Idempotent, or what it sends anew to a slow broker would be in the topic twice, and no member's fault.
        self.producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 5, "enable.idempotence": True})
        self.sent = 0

    def send(self, count: int, value: Callable[[int], bytes] = b"%d".__mod__, partitions: int = PARTITIONS) -> None:
        """Send values of the numbers that follow, one partition after the other."""
        for number in range(self.sent, self.sent + count):
            self.producer.produce(self.name, value(number), partition=number % partitions)
        self.producer.flush(30)
        self.sent += count

    def ends(self, topic: str | None = None) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "test-ends"})
        try:
            parts = len(consumer.list_topics(topic or self.name, 30).topics[topic or self.name].partitions)
            where = [TopicPartition(topic or self.name, p) for p in range(parts)]
            return {each.partition: consumer.get_watermark_offsets(each, 30)[1] for each in where}
        finally:
            consumer.close()

    def committed(self, group: str | None = None) -> dict[int, int]:
        [asked] = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group or self.group)]).values()
        found = asked.result(30).topic_partitions
        return {each.partition: each.offset for each in found if each.topic == self.name}

    def close(self) -> None:
        delete_topics(self.servers, self.name, self.dead)


@pytest.fixture
def topic(broker) -> Iterator[Topic]:
    found = Topic(broker)
    yield found
    found.close()


def wait_for(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


class Members:
    """Members that run in threads of the test; their work notes what it got, after `pause()` has let it."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.done: list[tuple[str, int, int]] = []  # member, partition, offset
        self.metrics: dict[str, ConsumerMetrics] = {}
        self.pause: Callable[[str], object] = lambda name: None
        self._stops: dict[str, StopRequest] = {}
        self._pool = ThreadPoolExecutor(8)
        self._runs: dict[str, Future[dict[str, Any]]] = {}

    def start(self, name: str, **settings: Any) -> None:
        defaults = {"batch_records": 20, "buffer_records": 60, "session_timeout_seconds": SESSION_SECONDS}
        consumer = ConsumerSettings(self.topic.servers, **{**defaults, **settings})
        self._stops[name], self.metrics[name] = StopRequest(), ConsumerMetrics()

        def work(batch: Batch) -> None:
            self.pause(name)
            self.done += [(name, record.partition(), record.offset()) for record in batch.records]

        self._runs[name] = self._pool.submit(
            consume, consumer, [self.topic.name], self.topic.group, work,
            stop=self._stops[name], metrics=self.metrics[name],
        )  # fmt: skip

    def stop(self, name: str) -> dict[str, Any]:
        self._stops[name].signal = signal.SIGTERM
        return self._runs[name].result(60)

    def close(self) -> None:
        self.pause = lambda name: None
        for stop in self._stops.values():
            stop.signal = signal.SIGTERM
        self._pool.shutdown()

    def workers(self, since: int = 0) -> set[str]:
        return {name for name, _, _ in self.done[since:]}

    def metric(self, name: str, metric: str, **labels: str) -> float | None:
        labels |= {"group": self.topic.group, "topic": self.topic.name}
        return self.metrics[name].registry.get_sample_value(f"ingest_consumer_{metric}", labels)

    def assert_each_once(self) -> None:
        counts = Counter((partition, offset) for _, partition, offset in self.done)
        assert max(counts.values()) == 1
        assert len(counts) == self.topic.sent


@pytest.fixture
def members(topic) -> Iterator[Members]:
    found = Members(topic)
    yield found
    found.close()


def test_members_join_and_leave_without_a_repeat(topic, members):
    members.start("one")
    topic.send(300)
    wait_for(lambda: len(members.done) == 300)
    members.start("two")
    wait_for(lambda: (members.metric("two", "lag", partition="0") or members.metric("two", "lag", partition="1")) == 0)
    before = len(members.done)
    topic.send(600)
    wait_for(lambda: len(members.done) == 900)
    assert members.workers(before) == {"one", "two"}  # they share
    topic.send(600)
    assert members.stop("one")["state"] == "stopped"  # in the midst of it
    wait_for(lambda: len(members.done) == 1500)
    members.stop("two")
    members.assert_each_once()
    assert topic.committed() == topic.ends()


def test_a_busy_member_pauses_stays_in_the_group_and_goes_on(topic, members):
    """The work of one batch takes longer than the group would wait for a poll."""
    go = threading.Event()
    members.pause = lambda name: go.wait(60)
    topic.send(1200)
    members.start("one", max_poll_interval_seconds=SESSION_SECONDS)
    wait_for(lambda: members.metric("one", "pauses_total") == 1)
    time.sleep(SESSION_SECONDS + 2)
    assert members.metric("one", "lag", partition="0") == 200
    go.set()
    wait_for(lambda: len(members.done) == 1200)
    wait_for(lambda: members.metric("one", "lag", partition="0") == 0)
    members.stop("one")
    members.assert_each_once()


def test_partitions_that_were_paused_when_they_left_are_read_when_they_come_back(topic, members):
    members.pause = lambda name: time.sleep(0.1 if name == "one" else 0)  # slow enough to be paused all the time
    topic.send(1800)
    members.start("one")
    wait_for(lambda: members.metric("one", "pauses_total"))
    members.start("two")
    wait_for(lambda: "two" in members.workers())
    members.stop("two")
    members.pause = lambda name: None
    wait_for(lambda: len(members.done) == 1800)
    members.stop("one")
    members.assert_each_once()


def test_a_topic_that_ends_with_markers_of_transactions_reaches_lag_zero(topic):
    producer = Producer({"bootstrap.servers": topic.servers, "transactional.id": topic.name})
    producer.init_transactions(30)
    for commit in (True, False):
        producer.begin_transaction()
        for partition in range(PARTITIONS - 1):  # one holds nothing
            producer.produce(topic.name, b"v", partition=partition)
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)
    done: list[tuple[int, int]] = []
    metrics = ConsumerMetrics()
    summary = consume(
        ConsumerSettings(topic.servers), [topic.name], topic.group,
        lambda batch: done.extend((each.partition(), each.offset()) for each in batch.records),
        metrics=metrics, until_end=True,
    )  # fmt: skip
    assert summary["state"] == "complete"
    assert sorted(done) == [(partition, 0) for partition in range(PARTITIONS - 1)]
    assert topic.ends() == {**dict.fromkeys(range(PARTITIONS - 1), 4), PARTITIONS - 1: 0}
    assert topic.committed() == topic.ends()


def test_records_that_the_topic_dropped_are_counted_and_the_rest_is_read(topic, members):
    topic.send(600)
    members.start("one")
    wait_for(lambda: len(members.done) == 600)
    members.stop("one")
    topic.send(600)
    ends = [TopicPartition(topic.name, partition, 150) for partition in range(PARTITIONS)]
    for answer in topic.admin.delete_records(ends).values():
        answer.result(30)
    members.start("two")
    wait_for(lambda: len(members.done) == 900)
    members.stop("two")
    assert members.metric("two", "expired_records_total") == 300
    assert topic.committed() == topic.ends()


def test_a_topic_that_is_not_there_is_one_sentence(broker):
    with pytest.raises(BadInputError, match="nowhere-at-all doesn't exist"):
        consume(ConsumerSettings(broker.bootstrap_servers), ["nowhere-at-all"], "group", lambda batch: None)


def test_the_example_of_the_page_runs(topic, tmp_path):
    [example] = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/consumers.md").read_text(), re.DOTALL)
    (tmp_path / "traded.py").write_text(example)
    market = list(simulate.market(simulate.SimulationSettings(count=200, fast=True)))
    topic.send(200, lambda number: json.dumps(market[number]).encode())
    environment = os.environ | {"KAFKA_BOOTSTRAP_SERVERS": topic.servers, "PYTHONPATH": str(REPOSITORY)}
    line = [sys.executable, str(tmp_path / "traded.py"), topic.name]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    wanted: Counter[str] = Counter()
    for each in market:
        wanted[each["symbol"]] += each["quantity"] or 0
    assert json.loads(done.stdout) == pytest.approx(dict(wanted))
    assert topic.committed("millrace-example") == topic.ends()


# A member that is killed in its third batch: before anything of it is written, or after the table has it and before
# the group has heard of it.
KILLED = """
import os, signal, sys
from ingest import __main__, persist
keep, calls, when = persist.Keeper.keep, [], sys.argv.pop(1)
def killed(self, batch):
    calls.append(batch)
    if len(calls) == 3 and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    keep(self, batch)
    if len(calls) == 3 and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
persist.Keeper.keep = killed
sys.exit(__main__.main())
"""


class Persisting:
    """`python -m ingest persist` as processes, all with one topic and one table."""

    def __init__(self, topic: Topic, folder: Path) -> None:
        self.topic, self.folder, self.table = topic, folder, folder / "table"
        self.running: list[subprocess.Popen[bytes]] = []
        message = next(simulate.market(simulate.SimulationSettings(count=1, fast=True)))
        self._message = message
        self._encode = contracts.load("market-data").encode

    def value(self, number: int) -> bytes:
        """A message for each number; some are broken."""
        if number % BROKEN == 0:
            return b"not a message"
        return self._encode(self._message | {"event_id": f"test/{number}"})

    def start(self, *arguments: str, killed: str = "") -> subprocess.Popen[bytes]:
        program = ["-c", KILLED, killed] if killed else ["-m", "ingest"]
        options = ["--bootstrap-servers", self.topic.servers, "--topic", self.topic.name, "--contract", "market-data"]
        options += ["--to", str(self.table), "--batch-records", "40", "--batch-seconds", "0.2"]
        options += ["--session-timeout", str(SESSION_SECONDS), *arguments]
        with (self.folder / f"member-{len(self.running)}.log").open("wb") as log:
            process = subprocess.Popen([sys.executable, *program, "persist", *options], stdout=log, stderr=log)
        self.running.append(process)
        return process

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"member-{self.running.index(process)}.log").read_text()

    def rows(self) -> list[tuple[int, int, str]]:
        if not DeltaTable.is_deltatable(str(self.table)):
            return []
        query = "SELECT kafka_partition, kafka_offset, event_id FROM t ORDER BY 1, 2"
        found = QueryBuilder().register("t", DeltaTable(str(self.table))).execute(query).read_all()
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def wanted(self) -> list[tuple[int, int, str]]:
        numbers = [number for number in range(self.topic.sent) if number % BROKEN]
        return sorted((n % PARTITIONS, n // PARTITIONS, f"test/{n}") for n in numbers)

    def assert_each_once(self) -> None:
        """Each record that could be read is in the table, and once; shows the others only, not thousands of rows."""
        rows, wanted = Counter(self.rows()), Counter(self.wanted())
        assert (sorted(rows - wanted), sorted(wanted - rows)) == ([], []), "too often, and missing"

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def persisting(topic, tmp_path) -> Iterator[Persisting]:
    found = Persisting(topic, tmp_path)
    yield found
    found.close()


def test_killed_members_and_new_ones_leave_every_record_in_the_table_once(topic, persisting):
    port = free_port()
    topic.send(1200, persisting.value)
    killed = persisting.start(killed="after")
    steady = persisting.start("--metrics-port", str(port))  # at the same time, and there is no table yet
    assert killed.wait(60) == -signal.SIGKILL
    killed = persisting.start(killed="before")
    deadline = time.monotonic() + 60
    while killed.poll() is None:
        assert time.monotonic() < deadline
        topic.send(60, persisting.value)  # so that it finds work as soon as it has partitions
        time.sleep(0.2)
    assert killed.wait() == -signal.SIGKILL
    last = persisting.start()
    wait_for(lambda: "partitions assigned" in persisting.log(last))
    topic.send(600, persisting.value)
    wait_for(lambda: len(persisting.rows()) >= len(persisting.wanted()))
    shown = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    for process in (steady, last):
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM, persisting.log(process)
        assert "Traceback" not in persisting.log(process)
    persisting.assert_each_once()
    summaries = [json.loads(persisting.log(each).splitlines()[-2]) for each in (steady, last)]
    assert {each["state"] for each in summaries} == {"stopped"}
    assert topic.committed(summaries[0]["group"]) == topic.ends()
    dead = sum(topic.ends(topic.dead).values())
    assert dead >= topic.sent // BROKEN  # at least once
    assert f'ingest_consumer_lag{{group="{summaries[0]["group"]}",partition="' in shown
    assert f'topic="{topic.name}"' in shown
    assert f'ingest_dead_letters_total{{feed="persist",reason="malformed",topic="{topic.name}"}}' in shown


def test_the_table_says_where_to_go_on_whatever_the_group_says(topic, persisting):
    """A group without commits, as after a long pause, repeats nothing; a new table gets everything."""
    topic.send(300, persisting.value)
    first = persisting.start("--until-end")
    assert first.wait(60) == 0, persisting.log(first)
    group = json.loads(persisting.log(first).splitlines()[-1])["group"]
    [done] = topic.admin.delete_consumer_groups([group]).values()
    done.result(30)
    second = persisting.start("--until-end")
    assert second.wait(60) == 0, persisting.log(second)
    summary = json.loads(persisting.log(second).splitlines()[-1])
    assert (summary["state"], summary["written"], summary["records"]) == ("complete", 0, 0)
    persisting.assert_each_once()
    assert topic.committed(group) == topic.ends()
    persisting.table.rename(persisting.folder / "moved")
    third = persisting.start("--until-end")
    assert third.wait(60) == 0, persisting.log(third)
    persisting.assert_each_once()
