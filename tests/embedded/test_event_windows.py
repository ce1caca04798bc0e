"""event-windows on a real broker, started by spark-submit as the embedded target starts it."""

import itertools
import json
import signal
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from streamkit.checkpoint import inspect, local_listing
from tests.embedded.spark_driver import PARTITIONS, Driver, Topics, message, windows_of

pytestmark = pytest.mark.embedded

DAY = datetime(2013, 1, 1)
KINDS = ("departed", "arrived", "cancelled", "diverted")
Events = list[tuple[datetime, str]]


def skewed(topics: Topics, hours: float = 2) -> Events:
    """Send in-order events: each partition covers the same hours, with twice as many events as the one before."""
    events: Events = []
    for partition in range(PARTITIONS):
        count = 240 * 2**partition
        mine = [(DAY + timedelta(hours=hours) * (i / count), KINDS[(i + partition) % 4]) for i in range(count)]
        mine = [(moment.replace(microsecond=0), kind) for moment, kind in mine]
        topics.send(partition, [message(moment, kind) for moment, kind in mine])
        events += mine
    topics.producer.flush()
    return events


def late_rows(progress: list[dict[str, Any]]) -> int:
    return sum(o["numRowsDroppedByWatermark"] for each in progress for o in each["stateOperators"])


def clean(driver: Driver) -> bool:
    return inspect(str(driver.checkpoint / "event-windows"), local_listing).clean


def test_every_window_is_right_although_partitions_advance_at_different_speeds(topics, driver):
    events = skewed(topics)
    topics.heartbeats(DAY + timedelta(hours=3))
    app = driver("source.max_offsets_per_trigger=400")
    app.start()
    progress = app.wait_for_watermark(DAY + timedelta(hours=2, minutes=30))
    assert app.stop() == 0
    assert len([each for each in progress if each["numInputRows"]]) > 3
    assert late_rows(progress) == 0
    assert app.delta_windows() == windows_of(events)
    assert app.kafka_windows() == windows_of(events)
    assert clean(app)
    assert not topics.read(topics.dead)


def test_one_watermark_for_the_whole_topic_loses_events_of_slower_partitions(topics, driver):
    """Why scope partition is the default, and proof that the test above could fail."""
    events = skewed(topics)
    topics.heartbeats(DAY + timedelta(hours=3))
    # Spark divides a batch over partitions by what they still hold; as many from each makes some run ahead.
    app = driver("source.max_offsets_per_trigger=400", "watermark.scope=topic")
    app.start()
    app.wait_for_watermark(DAY + timedelta(hours=2, minutes=30))
    assert app.stop() == 0
    assert set(app.delta_windows()) <= set(windows_of(events))


def test_bad_records_go_to_the_dead_letter_topic_and_the_run_goes_on(topics, driver):
    good: Events = [(DAY + timedelta(seconds=10 * i), KINDS[i % 4]) for i in range(300)]
    oversized = message(DAY, source="s" * 70_000)
    bad: list[tuple[int, bytes | None, bytes | None, str]] = [
        (0, b"k", b'{"schema_version": 1, "event_id"', "malformed JSON"),
        (1, b"k", oversized, f"oversized: {len(oversized)} bytes, limit 65536"),
        (2, b"k", message(DAY, schema_version=7), "unknown schema_version 7"),
        (2, None, message(DAY), "null key"),
        (2, b"k", message(DAY, event_type="landed"), "invalid event_type: 'landed' is not one of"),
        (2, b"k", None, "malformed JSON"),
    ]
    app = driver("source.max_offsets_per_trigger=120")
    app.start()
    for partition in range(PARTITIONS):
        mine = [message(*event) for event in good[partition::PARTITIONS]]
        topics.send(partition, mine[:25])
        for where, key, value, _ in bad:
            if where == partition:
                topics.send(partition, [value], key)
        topics.send(partition, mine[25:])
    topics.heartbeats(DAY + timedelta(hours=2))
    progress = app.wait_for_watermark(DAY + timedelta(hours=1, minutes=30))
    assert app.stop() == 0
    assert app.delta_windows() == windows_of(good)
    letters = {}
    for record in topics.read(topics.dead):
        headers = {name: value.decode() for name, value in record.headers()}
        assert headers["source-topic"] == topics.events
        place = int(headers["source-partition"]), int(headers["source-offset"])
        letters[place] = (record.key(), record.value(), headers["reason"])
    offsets = {partition: itertools.count(25) for partition in range(PARTITIONS)}
    assert len(letters) == len(bad)
    for partition, key, value, reason in bad:
        found = letters[partition, next(offsets[partition])]
        assert found[:2] == (key, value)
        assert found[2].startswith(reason)
    counted = [f for each in progress for f in (each.get("observedMetrics") or {}).values()]
    assert sum(value for figures in counted for name, value in figures.items() if name.startswith("count")) == len(bad)


def test_a_killed_driver_starts_again_and_gives_the_same_answer(topics, driver):
    events = skewed(topics)
    app = driver("source.max_offsets_per_trigger=250")
    app.start()
    app.wait_for("a few batches", lambda found: len(found) >= 3)
    app.kill()
    before = len(app.table())
    app.start()
    # After a restart the watermark waits for a record of every partition: these heartbeats are the last records.
    topics.heartbeats(DAY + timedelta(hours=3))
    progress = app.wait_for_watermark(DAY + timedelta(hours=2, minutes=30))
    assert progress[0]["batchId"] > 0
    assert app.stop() == 0
    assert app.delta_windows() == windows_of(events)
    assert app.kafka_windows() == windows_of(events)
    assert len(app.table()) > before
    assert clean(app)


def continuous_load(topics: Topics, stop: threading.Event) -> None:
    """Send events of an ever later time to all partitions until told to stop."""
    for second in itertools.count():
        for partition in range(PARTITIONS):
            topics.send(partition, [message(DAY + timedelta(seconds=second), KINDS[partition % 4])] * 5)
        if stop.wait(0.002):
            return


@pytest.fixture
def load(topics: Topics) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=continuous_load, args=(topics, stop))
    thread.start()
    yield
    stop.set()
    thread.join(30)


@pytest.mark.parametrize("how", ["stop file", "SIGTERM"])
def test_a_graceful_stop_under_load_leaves_a_clean_checkpoint(topics, driver, load, how):
    app = driver()
    app.start()
    app.wait_for("a few batches", lambda found: len(found) >= 3)
    if how == "SIGTERM":
        app.process.send_signal(signal.SIGTERM)
        assert app.wait() == 128 + signal.SIGTERM
    else:
        assert app.stop() == 0
    assert clean(app)
    assert app.messages("ERROR") == []
    state = inspect(str(app.checkpoint / "event-windows"), local_listing)
    assert state.planned is not None and state.planned >= 2


@pytest.mark.parametrize("mode", ["update", "complete"])
def test_other_output_modes_hold_every_window_once(topics, driver, mode):
    events = skewed(topics)
    app = driver("source.max_offsets_per_trigger=600", f"output_mode={mode}")
    app.start()
    progress = app.wait_for(
        "all events", lambda found: sum(each["numInputRows"] for each in found) == len(events), seconds=240
    )
    assert app.stop() == 0
    assert len(progress) > 2
    assert app.delta_windows() == windows_of(events)
    assert app.kafka_windows() == windows_of(events)
    assert clean(app)


def test_a_missing_topic_is_one_clear_line(topics, driver):
    app = driver("source.topic=no-such-topic")
    app.start()
    assert app.wait() == 1
    assert app.messages("ERROR") == [f"topic no-such-topic does not exist at {topics.servers}: create it first"]


def test_a_sink_that_fails_ends_the_app_with_one_clear_line(topics, driver):
    topics.send(0, [message(DAY)])
    topics.heartbeats(DAY + timedelta(hours=1))
    app = driver("sinks.delta.path=file:///proc/millrace")
    app.start()
    assert app.wait() == 1
    (error,) = app.messages("ERROR")
    assert error.startswith("query event-windows failed: ")
    assert "/proc/millrace" in error
    assert "\n" not in error


def test_bad_settings_are_one_clear_line_before_spark_starts(driver):
    app = driver("output_mode=upsert")
    app.start()
    assert app.wait() == 2
    (error,) = app.messages("ERROR")
    assert "output_mode: 'upsert': expected one of append, update, complete" in error


def test_the_checkpoint_tool_reads_what_the_app_left(topics, driver, capsys):
    from streamkit.checkpoint import main

    topics.heartbeats(DAY)
    app = driver()
    app.start()
    app.wait_for("a batch", lambda found: found)
    app.kill()
    status = main(["inspect", f"file://{app.checkpoint}", "--json"])
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["planned"] >= 0
    assert (status == 0) is line["clean"]
