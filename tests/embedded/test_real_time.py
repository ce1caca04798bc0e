"""Real-time mode on a real broker: the benchmarks' filter app, whose one query is stateless."""

import json
import time
from datetime import datetime, timedelta

import pytest

from embedded.paths import REPOSITORY
from streamkit.checkpoint import inspect, local_listing
from tests.embedded.spark_driver import PARTITIONS, message

pytestmark = pytest.mark.embedded

APP = {"app": REPOSITORY / "benchmarks" / "filter", "name": "benchmark-filter"}
SETTINGS = ("mode=real-time", "trigger=5 seconds")
DAY = datetime(2013, 1, 1)


def send(topics, first, count):
    """Send events to all partitions, by turns departed and arrived; returns the times of those that departed."""
    for number in range(first, first + count):
        kind = "departed" if number % 2 else "arrived"
        topics.send(number // 2 % PARTITIONS, [message(DAY + timedelta(seconds=number), kind)])
    topics.producer.flush()
    return {text(number) for number in range(first, first + count) if number % 2}


def text(number):
    return json.loads(message(DAY + timedelta(seconds=number)))["event_time"]


def passed(topics):
    return [json.loads(record.value())["event_time"] for record in topics.read(topics.windows)]


def test_events_pass_while_the_batch_runs_on_and_over_its_end(topics, driver):
    app = driver(*SETTINGS, cores=PARTITIONS, **APP)
    app.start()
    expected = send(topics, 0, 600)
    app.wait_for("the first batch", lambda found: len(found) >= 1)
    for step in range(4):
        expected |= send(topics, 600 + step * 60, 60)
        time.sleep(2)  # the load's own pace, so that it meets the ends of batches
    app.wait_for("further batches", lambda found: sum(each["numInputRows"] for each in found) >= 840)
    assert app.stop() == 0
    found = passed(topics)
    assert set(found) == expected
    assert len(found) == len(expected)
    assert inspect(str(app.checkpoint / "filter"), local_listing).clean


def test_a_killed_driver_loses_nothing(topics, driver):
    app = driver(*SETTINGS, cores=PARTITIONS, **APP)
    app.start()
    expected = send(topics, 0, 120)
    app.wait_for("the first batch", lambda found: len(found) >= 1)
    expected |= send(topics, 120, 120)
    app.kill()
    expected |= send(topics, 240, 120)
    app.start()
    # Records of the batch that was killed come again: at least once, as micro-batches into Kafka.
    deadline = time.monotonic() + 120
    while set(passed(topics)) != expected and time.monotonic() < deadline:
        time.sleep(1)
    assert set(passed(topics)) == expected
    assert app.stop() == 0


def test_too_few_task_slots_are_refused(topics, driver):
    app = driver(*SETTINGS, cores=2, **APP)
    app.start()
    assert app.wait() == 2
    [error] = app.messages("ERROR")
    assert f"{PARTITIONS} partitions and 2 task slots: give the executors {PARTITIONS} cores" in error
