"""event-windows with checkpoint, state and table on a real S3 gateway, and kills in the middle."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from embedded import jars
from tests.embedded.spark_driver import PARTITIONS, Driver, Topics, message, windows_of
from tests.object_store import ObjectStore, object_store

pytestmark = pytest.mark.embedded

DAY = datetime(2013, 1, 1)
KINDS = ("departed", "arrived", "cancelled")


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


def test_a_refused_key_is_one_clear_line(app, topics):
    topics.heartbeats(DAY)
    app.environment |= {"AWS_SECRET_ACCESS_KEY": "wrong"}
    app.start()
    assert app.wait() != 0
    [error] = app.messages("ERROR")
    assert "\n" not in error
    assert "403" in error or "denied" in error.lower() or "SignatureDoesNotMatch" in error
