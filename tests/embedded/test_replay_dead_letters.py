"""Dead letters go back to their topic, each once, whatever interrupts the replay; on a real broker."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from ingest import letter_group, replay_letters
from ingest.errors import BadInputError, IngestError
from ingest.kafka import ProducerSettings
from ingest.letters import Wanted
from ingest.progress import Metrics, Progress
from ingest.replay_letters import LetterSettings
from ingest.sender import StopRequest
from tests.topics import admin_of, create_topics, delete_topics

pytestmark = pytest.mark.embedded

REASONS = ("unknown schema_version 7", "malformed JSON")


@dataclass
class Letters:
    """A source topic and its dead-letter topic, of one test's own."""

    servers: str
    source: str
    dead: str

    def put(self, number: int, **headers: bytes | None) -> None:
        """Put a dead letter whose record came from partition number % 3."""
        envelope: dict[str, bytes | None] = {
            "source-topic": self.source.encode(),
            "source-partition": str(number % 3).encode(),
            "source-offset": str(number).encode(),
            "reason": REASONS[number % 2].encode(),
            "trace": b"\x01%d" % number,
        }
        kept = [(name, value) for name, value in {**envelope, **headers}.items() if value is not None]
        producer = Producer({"bootstrap.servers": self.servers, "message.max.bytes": 5_000_000})
        producer.produce(self.dead, b"value %d" % number, b"key %d" % number, number % 2, headers=kept)
        assert producer.flush(30) == 0

    def read(self, topic: str | None = None) -> list[Any]:
        topic = topic or self.source
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": uuid.uuid4().hex})
        try:
            ends = {
                p: consumer.get_watermark_offsets(TopicPartition(topic, p), 30)[1]
                for p in consumer.list_topics(topic, 30).topics[topic].partitions
            }
            consumer.assign([TopicPartition(topic, p, 0) for p in ends])
            found: list[Any] = []
            deadline = time.monotonic() + 60
            while len(found) < sum(ends.values()) and time.monotonic() < deadline:
                found += [each for each in consumer.consume(1000, 0.5) if not each.error()]
            return found
        finally:
            consumer.close()

    def values(self) -> list[str]:
        return sorted(record.value().decode() for record in self.read())

    def settings(self, **changes: Any) -> LetterSettings:
        return LetterSettings(ProducerSettings(self.servers), self.dead, **changes)

    def replay(self, **changes: Any) -> dict[str, Any]:
        progress = Progress("replay-dead-letters", self.dead, Metrics())
        return replay_letters.replay_letters(self.settings(**changes), StopRequest(), progress)

    def command(self, *arguments: str) -> list[str]:
        command = [sys.executable, "-m", "ingest", "replay-dead-letters", "--bootstrap-servers", self.servers]
        return [*command, "--topic", self.dead, *arguments]


@pytest.fixture
def letters(broker) -> Iterator[Letters]:
    name = f"test-letters-{uuid.uuid4().hex[:8]}"
    found = Letters(broker.bootstrap_servers, name, f"{name}-dead-letter")
    new = [
        NewTopic(found.source, 3, 1, config={"max.message.bytes": "20000"}),
        NewTopic(found.dead, 2, 1, config={"max.message.bytes": "2000000"}),
    ]
    create_topics(found.servers, *new)
    yield found
    delete_topics(found.servers, found.source, found.dead)


def texts(*numbers: int) -> list[str]:
    return sorted(f"value {number}" for number in numbers)


def test_records_go_back_as_they_were_once_and_only_once(letters):
    for number in range(8):
        letters.put(number)
    dry = letters.replay(dry_run=True)
    assert (dry["read"], dry["replayed"], dry["topics"]) == (8, 8, {letters.source: 8})
    assert dry["reasons"] == {"unknown schema_version 7": 4, "malformed JSON": 4}
    assert letters.values() == []
    assert letters.replay()["replayed"] == 8
    for record in letters.read():
        number = int(record.key().decode().split()[1])
        assert record.value() == b"value %d" % number
        assert record.partition() == number % 3
        headers = dict(record.headers())
        assert headers.pop("replayed-from").startswith(f"{letters.dead}/{number % 2}/".encode())
        assert headers == {"trace": b"\x01%d" % number}
    assert letters.replay()["read"] == 0
    letters.put(8)
    assert letters.replay()["replayed"] == 1
    assert letters.values() == texts(*range(9))
    assert letters.replay(again=True, wanted=Wanted(partitions=(0,), offsets=(0, 1)))["replayed"] == 2
    assert letters.values() == texts(*range(9), 0, 2)


def test_filters_leave_the_others_for_later(letters):
    for number in range(8):
        letters.put(number)
    first = letters.replay(wanted=Wanted(offsets=(1, 2)))
    assert (first["replayed"], letters.values()) == (4, texts(2, 3, 4, 5))
    second = letters.replay(wanted=Wanted(reasons=("malformed",)))
    assert (second["replayed"], second["already_replayed"]) == (2, 2)
    assert letters.values() == texts(1, 2, 3, 4, 5, 7)
    assert letters.replay(wanted=Wanted(until=time.time() - 3600))["replayed"] == 0
    rest = letters.replay(wanted=Wanted(since=time.time() - 3600))
    assert (rest["replayed"], letters.values()) == (2, texts(*range(8)))


def test_what_cannot_go_back_is_named_and_holds_nobody_up(letters):
    letters.put(0)
    producer = Producer({"bootstrap.servers": letters.servers, "message.max.bytes": 5_000_000})
    headers = [("source-topic", letters.source.encode()), ("source-partition", b"0"), ("reason", b"oversized")]
    producer.produce(letters.dead, os.urandom(50_000), b"large", 0, headers=headers)
    producer.flush(30)
    letters.put(2, **{"source-topic": None})
    letters.put(4, **{"source-topic": b"no-such-topic"})
    letters.put(6)
    run = subprocess.run(letters.command(), capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 1
    assert "3 could not be replayed" in run.stderr.splitlines()[-1]
    found = json.loads(run.stdout.splitlines()[-1])
    assert (found["replayed"], found["not_replayed"]) == (2, 3)
    why = {each["offset"]: each["why"] for each in found["refused"]}
    assert why[1].startswith(f"too large for {letters.source}")
    assert why[2] == "no header source-topic says where it came from"
    assert "no-such-topic doesn't exist" in why[3]
    assert letters.values() == texts(0, 6)
    # They are not forgotten: the cause may be mended.
    admin = admin_of(letters.servers)
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    entry = ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, letters.source, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)
    assert letters.replay()["replayed"] == 1
    assert sorted(record.key() for record in letters.read()) == [b"key 0", b"key 6", b"large"]


def test_a_replay_that_was_cut_off_after_sending_sends_nothing_twice(letters, monkeypatch):
    """As a crash between the delivery and the commit that remembers it."""
    for number in range(6):
        letters.put(number)
    monkeypatch.setattr(replay_letters, "CHUNK", 2)
    kept = letter_group.Member.commit
    commits: list[int] = []

    def commit(self: Any, memories: Any) -> None:
        commits.append(1)
        if len(commits) == 2:  # the first says what is pending, the second what was delivered
            raise IngestError("killed")
        kept(self, memories)

    with monkeypatch.context() as patched:
        patched.setattr(letter_group.Member, "commit", commit)
        with pytest.raises(IngestError, match="killed"):
            letters.replay()
    sent = letters.values()
    assert sent
    done = letters.replay()
    assert done["replayed"] + len(sent) == 6
    assert letters.values() == texts(*range(6))


def test_a_second_replay_beside_the_first_is_refused(letters, monkeypatch):
    letters.put(0)
    monkeypatch.setattr(letter_group, "SESSION_SECONDS", 6)
    with letter_group.joined(ProducerSettings(letters.servers), letters.dead, letters.settings().group_id, 2) as first:
        monkeypatch.setattr(letter_group, "SESSION_SECONDS", -4)  # how long the second waits for the first to vanish
        with pytest.raises(BadInputError, match="is at work"):
            letters.replay()
        assert first.memories().keys() == {0, 1}
    assert letters.values() == []


def test_a_killed_replay_is_taken_up_by_the_command_line(letters):
    producer = Producer({"bootstrap.servers": letters.servers})
    headers = [("source-topic", letters.source.encode()), ("source-partition", b"0"), ("reason", b"r")]
    for number in range(3000):
        producer.produce(letters.dead, b"value %d" % number, b"k", number % 2, headers=headers)
    assert producer.flush(60) == 0
    process = subprocess.Popen(letters.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    watch = Consumer({"bootstrap.servers": letters.servers, "group.id": uuid.uuid4().hex})
    while watch.get_watermark_offsets(TopicPartition(letters.source, 0), 30)[1] < 200 and process.poll() is None:
        assert time.monotonic() < deadline
    watch.close()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    run = subprocess.run(letters.command(), capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stderr
    assert letters.values() == texts(*range(3000))
