"""Start, failure and graceful stop of real streaming queries (Spark's rate source; Kafka has its own tests)."""

import json
import logging
import time

import pytest

from streamkit.checkpoint import inspect, local_listing
from streamkit.lifecycle import run, trigger_options
from streamkit.logs import JsonFormatter
from streamkit.settings import load_settings

SETTINGS = """
application: unit
trigger: 100 milliseconds
source: {topic: none, contract: none}
sinks: {kafka: {topic: none}}
"""


@pytest.fixture
def app(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)
    environment = {"MILLRACE_STORAGE": str(tmp_path), "KAFKA_BOOTSTRAP_SERVERS": "none"}
    return lambda *overrides: load_settings(path, overrides, environment)


def writer(spark, settings, name, each_batch):
    rows = spark.readStream.format("rate").option("rowsPerSecond", 50).load()
    query = rows.writeStream.queryName(name).foreachBatch(each_batch)
    return query.option("checkpointLocation", settings.checkpoint(name))


def test_the_trigger_follows_the_mode(app):
    assert trigger_options(app()) == {"processingTime": "100 milliseconds"}
    assert trigger_options(app("mode=real-time", "trigger=5 minutes")) == {"realTime": "5 minutes"}


def test_an_outdated_driver_stops_gracefully_with_status_1(spark, app, caplog):
    settings = app()
    seen: list[int] = []
    writers = [writer(spark, settings, "one", lambda rows, batch: seen.append(batch))]
    status = run(spark, settings, writers, lambda: False, lambda: "the topic has grown" if len(seen) > 1 else "")
    assert status == 1
    assert "the topic has grown" in caplog.text
    assert inspect(settings.checkpoint("one"), local_listing).clean
    assert not spark.streams.active


def test_a_stop_under_load_leaves_clean_checkpoints(spark, app):
    settings = app()
    batches: dict[str, list[int]] = {"one": [], "two": []}

    def slow(name):
        def write(rows, batch):
            rows.count()
            time.sleep(0.3)  # longer than the trigger: there is always a batch under way
            batches[name].append(batch)

        return write

    writers = [writer(spark, settings, name, slow(name)) for name in batches]
    assert run(spark, settings, writers, lambda: len(batches["one"]) > 3) == 0
    for name, seen in batches.items():
        state = inspect(settings.checkpoint(name), local_listing)
        assert state.clean
        assert sorted(set(seen)) == list(range((state.planned or 0) + 1))
    assert not spark.streams.active


def test_a_batch_that_was_interrupted_is_finished_after_all(spark, app, monkeypatch):
    """As if the stop had always come in mid-batch: the interrupted batch is run again, and no other."""
    settings, finished = app("stop_timeout=30 seconds"), []

    def write(rows, batch):
        rows.count()
        time.sleep(0.5)
        finished.append(batch)

    monkeypatch.setattr("streamkit.lifecycle.between_batches", lambda _: True)
    assert run(spark, settings, [writer(spark, settings, "torn", write)], lambda: len(finished) > 1) == 0
    state = inspect(settings.checkpoint("torn"), local_listing)
    assert state.clean
    assert finished[-1] == state.planned


def test_a_failing_query_is_status_1_and_one_line(spark, app, caplog, monkeypatch):
    settings = app()

    def fail(rows, batch):
        raise RuntimeError("the disk is full: make room")

    monkeypatch.setattr(logging.getLogger("streamkit"), "propagate", True)
    with caplog.at_level(logging.ERROR, "streamkit"):
        assert run(spark, settings, [writer(spark, settings, "failing", fail)], lambda: False) == 1
    (record,) = [each for each in caplog.records if each.name == "streamkit"]
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == "query failing failed: RuntimeError: the disk is full: make room"
    for query in spark.streams.active:
        query.stop()
