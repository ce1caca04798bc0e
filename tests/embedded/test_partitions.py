"""A topic that gets more partitions under a running app, on a real broker."""

from datetime import datetime, timedelta

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions

from streamkit.checkpoint import inspect, local_listing
from tests.embedded.conftest import wait_until
from tests.embedded.generated import letters_of
from tests.embedded.spark_driver import PARTITIONS, Topics, message, windows_of
from tests.topics import admin_of

pytestmark = pytest.mark.embedded

DAY = datetime(2013, 1, 1)
BEFORE, AFTER = PARTITIONS, PARTITIONS + 2


def events(first: int, count: int) -> list[tuple[datetime, str]]:
    return [(DAY + timedelta(seconds=second), "departed") for second in range(first, first + count)]


def send(topics: Topics, partition: int, moments: list[tuple[datetime, str]]) -> None:
    topics.send(partition, [message(*each) for each in moments])


def grow(topics: Topics) -> None:
    """Give the input topic more partitions, and the topics a producer that knows them."""
    admin = admin_of(topics.servers)
    for future in admin.create_partitions([NewPartitions(topics.events, AFTER)]).values():
        future.result(30)
    wait_until(lambda: len(admin.list_topics(topics.events, 30).topics[topics.events].partitions) == AFTER)
    topics.producer = Producer({"bootstrap.servers": topics.servers, "enable.idempotence": True})


def test_the_driver_ends_and_the_next_one_reads_the_new_partitions_from_their_start(topics, driver):
    app = driver()
    for partition in range(BEFORE):
        send(topics, partition, events(10 * partition, 10))
    topics.heartbeats(DAY + timedelta(minutes=2))
    app.start()
    app.wait_for_watermark(DAY)
    grow(topics)
    # Sent before anybody reads there; the second is invalid.
    send(topics, BEFORE, events(60, 300))
    topics.send(AFTER - 1, [message(DAY), b"broken", message(DAY + timedelta(seconds=400))])
    topics.producer.flush()

    assert app.wait() == 1
    [error] = app.messages("ERROR")
    assert error.startswith(f"topic {topics.events} has {AFTER} partitions, and this driver reads the {BEFORE} that")
    assert inspect(str(app.checkpoint / "event-windows"), local_listing).clean

    app.start()
    topics.heartbeats(DAY + timedelta(hours=1), AFTER)
    app.wait_for_watermark(DAY + timedelta(minutes=50))
    assert app.stop() == 0
    # The new partitions share the watermarks of the first two.
    [warning] = app.messages("WARNING")
    assert f"its checkpoint {BEFORE} sources: partitions 0 and {BEFORE} share a watermark" in warning
    sent = events(0, 10 * BEFORE) + events(60, 300) + events(0, 1) + events(400, 1)
    assert app.delta_windows() == windows_of(sent)
    assert app.kafka_windows() == windows_of(sent)
    assert list(letters_of(topics)) == [(AFTER - 1, 1)]
    assert len(app.messages("ERROR")) == 1
