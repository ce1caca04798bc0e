"""Which source reads which partition, and what is said of a topic that has grown (on a broker: tests/embedded)."""

from types import SimpleNamespace
from typing import Any

import pytest

from streamkit import partitions
from streamkit.kafka import KafkaError
from streamkit.partitions import PartitionWatch, groups_of, growth, shared, sources_in
from streamkit.settings import load_settings

SETTINGS = """
application: unit
source: {topic: events, contract: none}
sinks: {kafka: {topic: none}}
watermark: {delay: 1 minute, scope: partition}
"""


class Files:
    """A checkpoint with one batch of as many sources as there are lines."""

    def __init__(self, sources: int | None) -> None:
        self.sources = sources

    def list(self, path: str) -> list[str]:
        assert path.endswith("/checkpoints/unit/counts/offsets")
        return [] if self.sources is None else ["0", "1", ".2.tmp"]

    def read(self, path: str) -> str:
        assert path.endswith("/offsets/1")
        return "\n".join(["v1", '{"batchWatermarkMs":0}', *['{"events":{"0":1}}'] * (self.sources or 0)])


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """`groups_of` for a number of partitions, and of sources in the checkpoint."""

    def find(count: int, sources: int | None = None, *overrides: str, query: str | None = "counts") -> Any:
        path = tmp_path / "settings.yaml"
        path.write_text(SETTINGS)
        environment = {"MILLRACE_STORAGE": str(tmp_path), "KAFKA_BOOTSTRAP_SERVERS": "none"}
        monkeypatch.setattr(partitions, "partitions_of", lambda *_: list(range(count)))
        monkeypatch.setattr(partitions, "HadoopFiles", lambda _: Files(sources))
        return groups_of(SimpleNamespace(), load_settings(path, overrides, environment), query)

    return find


def test_each_partition_is_a_source_of_a_new_checkpoint(groups, caplog):
    assert groups(3) == [[0], [1], [2]]
    assert groups(3, query=None) == [[0], [1], [2]]
    assert groups(3, 3) == [[0], [1], [2]]
    assert caplog.text == ""


def test_with_one_watermark_there_is_one_source(groups):
    assert groups(3, 1, "watermark.scope=topic") == [[0, 1, 2]]


def test_later_partitions_are_shared_out_and_it_is_said(groups, caplog):
    assert groups(5, 2) == [[0, 2, 4], [1, 3]]
    assert "topic events has 5 partitions and its checkpoint 2 sources: partitions 0 and 2 and 4 share" in caplog.text


@pytest.mark.parametrize("sources", [1, 2, 3])
def test_a_source_keeps_its_partitions_however_often_the_topic_grows(sources):
    for fewer, more in ((3, 4), (4, 7), (7, 20)):
        for before, after in zip(shared(range(fewer), sources), shared(range(more), sources), strict=True):
            assert after[: len(before)] == before
        assert sorted(each for group in shared(range(more), sources) for each in group) == list(range(more))


def test_a_checkpoint_of_more_partitions_is_of_another_topic(groups):
    with pytest.raises(KafkaError, match=r"topic events has 2 partitions, but the checkpoint .*/unit/counts is of 3"):
        groups(2, 3)


def test_sources_are_counted_in_what_spark_wrote(spark, tmp_path):
    """Spark's own checkpoint of a union of two sources."""
    from streamkit.checkpoint import HadoopFiles

    frames = [spark.readStream.format("rate").option("rowsPerSecond", 10).load() for _ in range(2)]
    query = (
        frames[0]
        .union(frames[1])
        .writeStream.format("noop")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(once=True)
        .start()
    )
    query.awaitTermination()
    assert sources_in(HadoopFiles(spark), str(tmp_path / "checkpoint")) == 2
    assert sources_in(HadoopFiles(spark), str(tmp_path / "none")) is None


def test_growth_is_one_sentence():
    assert growth("events", 3, 3) == growth("events", 3, 2) == ""
    assert growth("events", 3, 5).startswith("topic events has 5 partitions, and this driver reads the 3 that were")


def watch(monkeypatch, counts, watermark=True, dead_letter=None):
    source = SimpleNamespace(topic="events")
    settings = SimpleNamespace(source=source, watermark=watermark or None, dead_letter=dead_letter)
    monkeypatch.setattr(partitions, "partitions_of", lambda *_: [0, 1])

    def current(*_):
        if isinstance(found := counts.pop(0), Exception):
            raise found
        return list(range(found))

    monkeypatch.setattr(partitions, "current_partitions", current)
    return PartitionWatch(SimpleNamespace(), settings, seconds=0.01)  # type: ignore[arg-type]


def until(condition, seconds=10.0):
    import time

    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_the_watch_outlasts_a_broker_that_is_away(monkeypatch):
    counts = [2, KafkaError("away"), 2, 4]
    found = watch(monkeypatch, counts)
    assert until(lambda: found().startswith("topic events has 4 partitions"))
    assert counts == []


def test_the_watch_ends_when_told_and_asks_nothing_without_a_watermark(monkeypatch):
    counts: list[Any] = [2] * 100_000
    found = watch(monkeypatch, counts)
    assert until(lambda: len(counts) < 100_000)
    found.close()
    found._end.wait(0.1)
    left = len(counts)
    assert not until(lambda: len(counts) < left - 1, seconds=0.2)
    assert watch(monkeypatch, [], watermark=False)() == ""


def test_a_topic_whose_bad_records_are_counted_by_partition_is_watched_too(monkeypatch):
    found = watch(monkeypatch, [3], watermark=False, dead_letter=SimpleNamespace(topic="dead"))
    assert until(lambda: found().startswith("topic events has 3 partitions"))
