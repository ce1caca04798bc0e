"""event-windows with checkpoint, state and table on a real S3 gateway, and kills in the middle."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from embedded import jars
from tests.embedded.spark_driver import REPOSITORY, Driver, Topics, message, windows_of
from tests.object_store import ObjectStore, object_store
from tests.unit.streamkit.checkpoints import fingerprint

pytestmark = pytest.mark.embedded

DAY = datetime(2013, 1, 1)
KINDS = ("departed", "arrived", "cancelled")
PARTITIONS = 6


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with object_store() as running:
        yield running


@pytest.fixture
def app(store, topics, java, jar_cache, spark_jars, java_home, submit_options) -> Iterator[Driver]:
    """The app as a pod runs it: the image's jars for S3, and the environment that a pod gets."""
    made = Driver(topics, spark_jars, java_home, submit_options, store.bucket, ["source.max_offsets_per_trigger=150"])
    made.more_jars = jars.fetch(java, jar_cache, names=["s3"])["s3"]
    made.environment = store.environment
    yield made
    made.kill()


def send(topics: Topics) -> list[tuple[datetime, str]]:
    events = [(DAY + timedelta(seconds=10 * i), KINDS[i % 3]) for i in range(720)]
    for partition in range(PARTITIONS):
        topics.send(partition, [message(*event) for event in events[partition::PARTITIONS]])
    topics.producer.flush()
    return events


def test_a_killed_driver_goes_on_from_the_checkpoint_on_s3(store, topics, app):
    events = send(topics)
    app.start()
    app.wait_for("a few batches", lambda found: len(found) >= 2)
    app.kill()
    app.start()
    # After a restart the watermark waits for a record of every partition: these heartbeats are the last records.
    topics.heartbeats(DAY + timedelta(hours=3))
    progress = app.wait_for_watermark(DAY + timedelta(hours=2, minutes=30))
    assert progress[0]["batchId"] > 0
    assert app.stop() == 0
    assert app.delta_windows() == windows_of(events)
    assert app.kafka_windows() == windows_of(events)
    # A rename is a copy and a deletion on S3, and no single step: the checkpoint is written without.
    assert store.count("PutObject") > 0
    assert store.count("CopyObject") == 0
    taken_back_on_s3(app, store)


def taken_back_on_s3(app: Driver, store: ObjectStore) -> None:
    """The stopped app's checkpoint and table go back to an earlier batch."""
    checkpoint, windows = app.checkpoint / app.name, len(app.table())
    before = fingerprint(checkpoint)
    newest = max(int(path.name) for path in (checkpoint / "commits").iterdir())
    done = recovery(app, "rewind", "--claimed", "--yes", "--json", "--to-batch", str(newest // 2))
    assert done.returncode == 0, done.stderr[-2000:]
    (plan,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert max(int(path.name) for path in (checkpoint / "commits").iterdir()) == newest // 2
    assert fingerprint(store.bucket / plan["backup"].removeprefix("s3a://millrace/")) == before
    assert len(app.table()) < windows
    sound = recovery(app, "check", "--json")
    assert (sound.returncode, [line for line in sound.stdout.splitlines() if line.startswith("{")]) == (0, [])


def recovery(app: Driver, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the recovery tool with the app's jars, environment and settings."""
    assert app.more_jars
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "SPARK_"))}
    environment |= {"JAVA_HOME": str(app.java_home), "PYTHONPATH": str(REPOSITORY / "spark-apps")}
    environment |= {"PYSPARK_PYTHON": sys.executable, "SPARK_SUBMIT_OPTS": app.submit_options, **app.environment}
    environment |= {"KAFKA_BOOTSTRAP_SERVERS": app.topics.servers, "SPARK_LOCAL_IP": "127.0.0.1"}
    command = [
        str(Path(sys.executable).parent / "spark-submit"),
        *("--conf", f"spark.driver.extraClassPath={app.jars}/*"),
        *("--jars", ",".join(map(str, app.more_jars.glob("*.jar")))),
        str(REPOSITORY / "spark-apps/streamkit/recovery/__main__.py"),
        *("--settings", str(app.app / "settings.yaml"), "--set", f"source.topic={app.topics.events}"),
        *arguments,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)


def test_a_refused_key_is_one_clear_line(app, topics):
    topics.heartbeats(DAY)
    app.environment |= {"AWS_SECRET_ACCESS_KEY": "wrong"}
    app.start()
    assert app.wait() != 0
    [error] = app.messages("ERROR")
    assert "\n" not in error
    assert "403" in error or "denied" in error.lower() or "SignatureDoesNotMatch" in error
