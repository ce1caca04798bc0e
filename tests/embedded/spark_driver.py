"""Runs an app, by default event-windows, as the embedded target does: one local spark-submit, followed over HTTP."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewTopic
from deltalake import DeltaTable

from embedded.broker import Broker
from embedded.ports import free_port
from tests.topics import create_topics, delete_topics

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "spark-apps/event-windows"
Windows = dict[tuple[datetime, str], int]
PARTITIONS = 3
"""Of a test's input topic: enough for one to be ahead of another; each is a branch of every batch's plan."""


class Topics:
    """An input, an output and a dead-letter topic of one test's own."""

    def __init__(self, broker: Broker, partitions: int = PARTITIONS) -> None:
        name = f"test-{uuid.uuid4().hex[:8]}"
        self.events, self.windows, self.dead = f"{name}-events", f"{name}-windows", f"{name}-dead"
        self.servers = broker.bootstrap_servers
        new = [NewTopic(self.events, partitions, 1), NewTopic(self.windows, 2, 1), NewTopic(self.dead, 1, 1)]
        create_topics(self.servers, *new)
        self.producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 5, "enable.idempotence": True})

    def send(self, partition: int, values: Iterable[bytes | None], key: bytes | None = b"k") -> None:
        for value in values:
            self.producer.produce(self.events, value, key, partition=partition)
            self.producer.poll(0)

    def heartbeats(self, time_: datetime, partitions: int = PARTITIONS) -> None:
        for partition in range(partitions):
            self.send(partition, [message(time_, "heartbeat")])
        self.producer.flush()

    def read(self, topic: str) -> list[Any]:
        """Every record of a topic."""
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": uuid.uuid4().hex})
        try:
            count = len(consumer.list_topics(topic, 30).topics[topic].partitions)
            ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), 30)[1] for p in range(count)}
            consumer.assign([TopicPartition(topic, p, 0) for p in ends])
            records: list[Any] = []
            deadline = time.monotonic() + 60
            while len(records) < sum(ends.values()) and time.monotonic() < deadline:
                records += [each for each in consumer.consume(1000, 1) if not each.error()]
            return records
        finally:
            consumer.close()

    def close(self) -> None:
        self.producer.flush(10)
        delete_topics(self.servers, self.events, self.windows, self.dead)


def message(time_: datetime, kind: str = "departed", **fields: Any) -> bytes:
    text = time_.strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "schema_version": 1,
        "event_id": f"{kind}/{text}",
        "event_type": kind,
        "event_time": text,
        "source": "test",
    }
    return json.dumps({**event, **fields}).encode()


def windows_of(events: Iterable[tuple[datetime, str]]) -> Windows:
    """Windows of 5 minutes every minute, in plain Python."""
    counts: Counter[tuple[datetime, str]] = Counter()
    for moment, kind in events:
        newest = moment.replace(second=0, microsecond=0)
        for back in range(5):
            counts[newest - timedelta(minutes=back), kind] += 1
    return dict(counts)


@dataclass
class Driver:
    """A spark-submit of the app; started by `start`, perhaps more than once."""

    topics: Topics
    jars: Path
    java_home: Path
    submit_options: str
    storage: Path
    overrides: Sequence[str] = ()
    app: Path = APP
    name: str = "event-windows"
    cores: int = 2
    environment: dict[str, str] = field(default_factory=dict)
    conf: dict[str, str] = field(default_factory=dict)
    more_jars: Path | None = None
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    port: int = field(default=0, init=False)

    @property
    def log(self) -> Path:
        return self.storage / "driver.log"

    def start(self) -> None:
        self.storage.mkdir(exist_ok=True)
        self.stop_file.unlink(missing_ok=True)
        self.port = free_port()
        # One that is killed leaves files there; they go with the test's folder.
        temporary = tempfile.mkdtemp(prefix="temporary-", dir=self.storage)
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "SPARK_"))
        }
        environment |= {
            "JAVA_HOME": str(self.java_home),
            "PYTHONPATH": str(REPOSITORY / "spark-apps"),
            "PYSPARK_PYTHON": sys.executable,
            "MILLRACE_STORAGE": f"file://{self.storage}",
            "MILLRACE_METRICS_HOST": "127.0.0.1",
            "MILLRACE_METRICS_PORT": str(self.port),
            "KAFKA_BOOTSTRAP_SERVERS": self.topics.servers,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_SUBMIT_OPTS": f"{self.submit_options} -Djava.io.tmpdir={temporary}",
            "TMPDIR": temporary,
        } | self.environment
        settings = [
            f"source.topic={self.topics.events}",
            f"sinks.kafka.topic={self.topics.windows}",
            *([f"dead_letter.topic={self.topics.dead}"] if self.app == APP else []),
            f"source.min_partitions={PARTITIONS}",
            "trigger=100 milliseconds",
            *self.overrides,
        ]
        command = [
            str(Path(sys.executable).parent / "spark-submit"),
            *("--master", f"local[{self.cores}]", "--driver-memory", "1g"),
            *("--conf", f"spark.driver.extraClassPath={self.jars}/*", "--conf", "spark.ui.enabled=false"),
            *(part for name, value in self.conf.items() for part in ("--conf", f"{name}={value}")),
            # Not on the class path, which the class archive was made for.
            *(("--jars", ",".join(map(str, self.more_jars.glob("*.jar")))) if self.more_jars else ()),
            str(self.app / "app.py"),
            *("--settings", str(self.app / "settings.yaml")),
            *(part for each in settings for part in ("--set", each)),
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def stop_file(self) -> Path:
        return self.storage / "control" / self.name / "stop"

    @property
    def checkpoint(self) -> Path:
        return self.storage / "checkpoints" / self.name

    def progress(self) -> list[dict[str, Any]]:
        """The reports of the main query's batches; empty while the driver does not answer yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/progress", timeout=10) as answer:
                queries = json.load(answer)["queries"]
        except OSError:
            return []
        return queries[0]["progress"] if queries else []

    def wait_for(self, what: str, condition: Any, seconds: float = 180) -> list[dict[str, Any]]:
        """Wait until `condition(reports)` holds; returns the reports."""
        deadline = time.monotonic() + seconds
        while not condition(found := self.progress()):
            if self.process is None or self.process.poll() is not None:
                pytest.fail(f"the driver ended while waiting for {what}:\n{self.tail()}")
            if time.monotonic() > deadline:
                pytest.fail(f"waited {seconds} s in vain for {what}:\n{found[-1:]}\n{self.tail()}")
            time.sleep(0.05)
        return found

    def wait_for_watermark(self, moment: datetime) -> list[dict[str, Any]]:
        """Wait until every window that ends by `moment` (naive, UTC) is out."""
        text = moment.strftime("%Y-%m-%dT%H:%M:%S")
        return self.wait_for(
            f"watermark {text}", lambda found: found and found[-1].get("eventTime", {}).get("watermark", "") >= text
        )

    def stop(self, seconds: float = 120) -> int:
        """Stop gracefully; returns the exit status."""
        self.stop_file.parent.mkdir(parents=True, exist_ok=True)
        self.stop_file.touch()
        return self.wait(seconds)

    def wait(self, seconds: float = 120) -> int:
        assert self.process
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the driver did not end within {seconds} s:\n{self.tail()}")

    def kill(self) -> None:
        """SIGKILL the JVM and Python at once, as an out-of-memory kill or a power cut would."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def messages(self, level: str) -> list[str]:
        """The app's own log messages of a level."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith('{"timestamp"')]
        entries = (entry for entry in map(json.loads, lines) if entry["logger"] == "streamkit")
        return [entry["message"] for entry in entries if entry["level"] == level.lower()]

    def table(self) -> list[tuple[datetime, datetime, str, int]]:
        """The rows of the Delta table, times as naive UTC."""
        files = DeltaTable(str(self.storage / "tables/event_windows")).file_uris()
        if not files:
            return []
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            query = "SELECT window_start, window_end, event_type, events FROM read_parquet(?)"
            rows = connection.execute(query, [files]).fetchall()
        return [(naive(start), naive(end), kind, count) for start, end, kind, count in rows]

    def delta_windows(self) -> Windows:
        """The Delta table as windows; fails if one is there twice or is not 5 minutes long."""
        rows = self.table()
        found = {(start, kind): count for start, _, kind, count in rows}
        assert len(found) == len(rows), "a window is in the table twice"
        assert all(end - start == timedelta(minutes=5) for start, end, _, _ in rows)
        return found

    def kafka_windows(self) -> Windows:
        """The output topic as windows: the last record of each key."""
        found: Windows = {}
        for record in self.topics.read(self.topics.windows):
            row = json.loads(record.value())
            assert record.key().decode() == f"{row['window_start']}|{row['event_type']}"
            found[naive(datetime.fromisoformat(row["window_start"])), row["event_type"]] = row["events"]
        return found


def naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
