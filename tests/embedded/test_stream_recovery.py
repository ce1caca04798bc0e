"""Checkpoints of real apps on a real broker: taken back and started again, the answer is the same."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import NewTopic

from millrace.errors import OwnedByAnotherError
from millrace.recovery import Request, Result, manifest_of, run_tool
from millrace.targets import get_target
from millrace.targets.base import Target
from streamkit.checkpoint import main
from streamkit.recovery.files import LocalFiles
from streamkit.recovery.table import newest_batch
from tests.dags.conftest import airflow_database, run_python
from tests.embedded.spark_driver import PARTITIONS, Driver, Topics, windows_of
from tests.embedded.test_event_windows import DAY, skewed
from tests.topics import admin_of, create_topics, delete_topics
from tests.unit.millrace.conftest import eventually
from tests.unit.streamkit.checkpoints import fingerprint, kafka_checkpoint

__all__ = ["airflow_database"]

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

APP = "event-windows"


class Application:
    """event-windows as the embedded target runs it, and the recovery tool in its place."""

    def __init__(self, topics: Topics) -> None:
        self.overrides = (
            f"source.topic={topics.events}",
            f"sinks.kafka.topic={topics.windows}",
            f"dead_letter.topic={topics.dead}",
            "trigger=100 milliseconds",
            "source.max_offsets_per_trigger=300",
            f"source.min_partitions={PARTITIONS}",
        )

    @property
    def target(self) -> Target:
        return get_target()

    def run_until(self, watermark: str, owner: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Start it, do something while it runs, wait for the watermark, stop it."""
        arguments = [part for each in self.overrides for part in ("--set", each)]
        self.target.start_application(manifest_of(APP), owner, arguments)
        try:
            meanwhile()
            eventually(lambda: self.watermark() >= watermark, 180)
        finally:
            ended = self.target.stop_application(APP, 120, owner)
        assert ended.state == "COMPLETED", ended

    def watermark(self) -> str:
        status = self.target.application_status(APP)
        assert not status.state.ended, status
        try:
            (query,) = self.target.progress(APP, last=1)["queries"]
            return query["progress"][-1]["eventTime"]["watermark"]
        except Exception:
            return ""  # the driver is just starting

    def tool(self, action: str, *arguments: str) -> Result:
        return run_tool(Request(APP, action, arguments, self.overrides), f"dag/recovery/{action}", 180)


@pytest.fixture
def storage(
    tmp_path: Path,
    topics: Topics,
    monkeypatch: pytest.MonkeyPatch,
    spark_jars: Path,
    java_home: Path,
    submit_options: str,
) -> Iterator[Path]:
    """MILLRACE_STORAGE of an embedded target that is set up for Spark."""
    monkeypatch.setenv("MILLRACE_TARGET", "embedded")
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}/storage")
    monkeypatch.setenv("MILLRACE_SPARK_JARS", str(spark_jars))
    monkeypatch.setenv("JAVA_HOME", str(java_home))
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", submit_options)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", topics.servers)
    for name in ("MILLRACE_ROOT", "SPARK_REMOTE"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "storage"
    get_target().stop_application(APP, 1)
    get_target().stop_application(f"{APP}-recovery", 1)


def test_a_stream_that_was_taken_back_gives_the_same_table(
    topics: Topics, storage: Path, driver: Callable[..., Driver]
) -> None:
    events = skewed(topics)
    topics.heartbeats(DAY + timedelta(hours=3))
    app, read = Application(topics), driver()  # the driver is not started: it reads table and topic

    def refused_while_it_runs() -> None:
        eventually(lambda: self_says_something(app), 120)
        with pytest.raises(OwnedByAnotherError, match="event-windows is already run by dag/first"):
            app.tool("rewind", "--to-batch", "0")

    app.run_until("2013-01-01T02:30", "dag/first", refused_while_it_runs)
    assert read.delta_windows() == windows_of(events)
    rows = len(read.table())
    (before,) = app.tool("inspect", "--batches", "100").values
    assert before["clean"] and before["finished"] > 3
    sizes = [batch["records"] for batch in before["batches"][1:]]
    assert max(sizes) <= 300

    batch = before["finished"] // 2
    untouched = fingerprint(storage / "checkpoints"), read.table()
    plan = app.tool("rewind", "--to-batch", str(batch), "--dry-run")
    assert f"to batch {batch}" in plan.text
    assert (fingerprint(storage / "checkpoints"), read.table()) == untouched
    done = app.tool("rewind", "--to-batch", str(batch)).values[0]
    assert done["records"] == sum(b["records"] for b in before["batches"] if b["batch"] > batch)
    assert len(read.table()) < rows, "the table went back with the checkpoint"

    # After a restart the watermark waits for a record of every partition.
    topics.heartbeats(DAY + timedelta(hours=3))
    app.run_until("2013-01-01T02:30", "dag/second")
    assert read.delta_windows() == windows_of(events), "every window once, though its batch has been written before"
    assert read.kafka_windows() == windows_of(events)
    assert app.tool("check").values == []
    after = json.loads((storage / f"checkpoints/{APP}/{APP}/metadata").read_text())["id"]
    table = str(storage / "tables/event_windows")
    assert after == done["new_id"]
    assert (newest_batch(LocalFiles(), table, after) or 0) > batch


def self_says_something(app: Application) -> bool:
    return bool(app.watermark())


STATELESS = """
import sys
from pyspark.sql import SparkSession
servers, topic, checkpoint, jars = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[1]").config("spark.driver.extraClassPath", f"{jars}/*")
    .config("spark.ui.enabled", "false").config("spark.log.level", "ERROR")
    .config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
)
source = spark.readStream.format("kafka").option("kafka.bootstrap.servers", servers).option("subscribe", topic)
rows = source.option("startingOffsets", "earliest").load().selectExpr("partition", "offset")
seen = lambda batch, _: [print("read", row.partition, row.offset) for row in batch.collect()]
writer = rows.writeStream.foreachBatch(seen).option("checkpointLocation", checkpoint).trigger(availableNow=True)
writer.start().awaitTermination()
"""


@pytest.fixture
def topic(broker: Any) -> Iterator[str]:
    """Two partitions with ten records each."""
    name = f"test-recovery-{uuid.uuid4().hex[:8]}"
    create_topics(broker.bootstrap_servers, NewTopic(name, 2, 1))
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for number in range(20):
        producer.produce(name, b"value %d" % number, partition=number % 2)
    assert producer.flush(30) == 0
    yield name
    delete_topics(broker.bootstrap_servers, name)


def test_a_stateless_query_goes_on_at_the_offsets_that_were_chosen(
    topic: str, broker: Any, tmp_path: Path, spark_jars: Path, java_home: Path, submit_options: str
) -> None:
    script, checkpoint = tmp_path / "query.py", tmp_path / "app/query"
    script.write_text(STATELESS)

    def read() -> list[tuple[int, int]]:
        environment = {**os.environ, "JAVA_HOME": str(java_home), "SPARK_SUBMIT_OPTS": submit_options}
        arguments = [broker.bootstrap_servers, topic, f"file://{checkpoint}", str(spark_jars)]
        run = subprocess.run(
            [sys.executable, str(script), *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr[-2000:]
        found = [line.split() for line in run.stdout.splitlines() if line.startswith("read ")]
        return sorted((int(partition), int(offset)) for _, partition, offset in found)

    assert len(read()) == 20
    rewind = ["rewind", str(checkpoint), "--claimed", "--yes", "--bootstrap-servers", broker.bootstrap_servers]
    assert main([*rewind, "--to-offsets", f"{topic}:0:11"]) == 1  # beyond the topic's end
    assert main([*rewind, "--to-offsets", f"{topic}:0:7"]) == 0
    assert read() == [(0, 7), (0, 8), (0, 9)], "the other partition stays where it was"
    assert main(["check", str(checkpoint), "--bootstrap-servers", broker.bootstrap_servers]) == 0


def test_offsets_that_the_topic_does_not_have_are_found(
    topic: str, broker: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    admin = admin_of(broker.bootstrap_servers)
    admin.delete_records([TopicPartition(topic, 0, 6)])[TopicPartition(topic, 0)].result(30)

    def check(name: str, **offsets: int) -> str:
        ends = {topic: {partition.removeprefix("p"): offset for partition, offset in offsets.items()}}
        path = kafka_checkpoint(tmp_path / name, [ends])
        status = main(["check", str(path), "--bootstrap-servers", broker.bootstrap_servers])
        said = capsys.readouterr().out
        assert status == (0 if said.endswith(": sound\n") else 1)
        return said

    assert "sound" in check("sound", p0=6, p1=10)
    assert f"{topic}/0 begins at offset 6, and the query goes on at 4: 2 records" in check("expired", p0=4, p1=0)
    assert f"{topic}/1 ends at offset 10, and the query goes on at 11" in check("ahead", p0=10, p1=11)
    assert f"{topic}/2 does not exist" in check("partitions", p0=10, p2=0)
    path = kafka_checkpoint(tmp_path / "gone", [{f"{topic}-gone": {"0": 1}}])
    assert main(["check", str(path), "--bootstrap-servers", broker.bootstrap_servers]) == 1
    assert f"topic {topic}-gone does not exist" in capsys.readouterr().out
    assert main(["check", str(path), "--bootstrap-servers", "127.0.0.1:1"]) == 1
    assert "Kafka at 127.0.0.1:1 does not say what its topics hold" in capsys.readouterr().err


RUNS = """
import json, os
from stream_recovery import dag
for conf in json.loads(os.environ["RUNS"]):
    run = dag.test(run_conf=conf)
    print(json.dumps({"run": run.state, **{ti.task_id: ti.state for ti in run.get_task_instances()}}))
"""


def test_the_dag_rewinds_verifies_and_replays(
    airflow_database: dict[str, str], topic: str, storage: Path, broker: Any, topics: Topics
) -> None:
    checkpoint = kafka_checkpoint(
        storage / f"checkpoints/{APP}/{APP}", [{topic: {"0": 2, "1": 2}}, {topic: {"0": 9, "1": 8}}]
    )
    headers = [("source-topic", topic.encode()), ("source-partition", b"1"), ("reason", b"malformed JSON")]
    topics.producer.produce(topics.dead, b"mended", b"k", headers=headers)
    topics.producer.produce(topics.dead, b"other", b"k", headers=[*headers[:2], ("reason", b"null key")])
    topics.producer.flush(30)
    runs = [
        {"action": "rewind", "to_batch": 0, "dry_run": False, "application": APP},
        {"action": "replay", "dead_letter_topic": topics.dead, "reasons": "malformed JSON", "dry_run": False},
        {"action": "rewind", "to_batch": 5},
    ]
    connection = {"conn_type": "kafka", "extra": {"bootstrap.servers": broker.bootstrap_servers}}
    environment = airflow_database | {
        **{
            name: os.environ[name] for name in ("MILLRACE_HOME", "MILLRACE_STORAGE", "MILLRACE_SPARK_JARS", "JAVA_HOME")
        },
        "SPARK_SUBMIT_OPTS": os.environ["SPARK_SUBMIT_OPTS"],
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps(connection),
        "RUNS": json.dumps(runs),
        "MILLRACE_RETRY_DELAY_SECONDS": "1",
    }
    log = run_python(RUNS, environment)
    rewound, replayed, refused = [json.loads(line) for line in log.splitlines() if line.startswith('{"run"')]
    assert rewound["run"] == "success", log
    assert {rewound[name] for name in ("rewind_checkpoint", "verify_checkpoint", "starts_again")} == {"success"}
    assert {rewound[name] for name in ("inspect_checkpoint", "replay_dead_letters", "start_again")} == {"skipped"}
    assert sorted(path.name for path in (checkpoint / "commits").iterdir()) == ["0"]
    assert (replayed["run"], replayed["replay_dead_letters"]) == ("success", "success"), log
    back = [(record.partition(), record.offset()) for record in topics.read(topic) if record.value() == b"mended"]
    assert back == [(1, 10)]
    assert len(topics.read(topic)) == 21
    assert (refused["run"], refused["verify_checkpoint"]) == ("failed", "upstream_failed"), log
    assert "batch 5 is not there: committed batches are 0 to 0" in log
