"""Watermarks, heartbeats and windows over real streaming queries (from files; Kafka has its own tests)."""

import json
from collections import Counter
from datetime import datetime, timedelta

import pytest

from streamkit.dead_letter import observe_invalid
from streamkit.settings import SettingsError, WindowSettings
from streamkit.source import as_events, checked, with_watermark, without_heartbeats
from streamkit.windows import KEYS, count_by_type
from tests.unit.streamkit.records import SCHEMA, event

WINDOW = WindowSettings("5 minutes", "1 minute")
DAY = datetime(2013, 1, 1)


def expected(times_and_types):
    """Sliding windows of 5 minutes every minute, in plain Python."""
    counts: Counter[tuple[datetime, str]] = Counter()
    for time, kind in times_and_types:
        newest = time.replace(second=0, microsecond=0)
        for back in range(5):
            counts[newest - timedelta(minutes=back), kind] += 1
    return counts


def found(rows):
    return {(row.window_start, row.event_type): row.events for row in rows.collect()}


def test_every_sliding_window_is_counted(spark):
    times = [(DAY + timedelta(seconds=37 * i), "departed" if i % 3 else "arrived") for i in range(200)]
    rows = count_by_type(spark.createDataFrame(times, "event_time timestamp, event_type string"), WINDOW)
    assert rows.columns == ["window_start", "window_end", "event_type", "events"]
    assert rows.select(*KEYS).distinct().count() == rows.count()
    assert found(rows) == expected(times)
    assert all(row.window_end - row.window_start == timedelta(minutes=5) for row in rows.collect())


def test_an_app_without_a_window_says_so(spark):
    with pytest.raises(SettingsError, match="window: is missing"):
        count_by_type(spark.createDataFrame([], "event_time timestamp, event_type string"), None)


def message(time, kind="departed"):
    return json.dumps(event(event_time=time.strftime("%Y-%m-%dT%H:%M:%SZ"), event_type=kind)).encode()


def test_a_heartbeat_closes_windows_and_is_not_counted(spark, contract, tmp_path):
    """The same plan as the app's, from files: events, then one heartbeat, then nothing."""
    folder = tmp_path / "in"
    times = [(DAY + timedelta(seconds=10 * i), "departed") for i in range(60)]
    batches = [[message(*each) for each in times[:30]], [message(*each) for each in times[30:]]]
    batches.append([message(DAY + timedelta(hours=1), "heartbeat"), b"broken"])
    for index, batch in enumerate(batches):
        rows = [("events", 0, 100 * index + offset, DAY, b"k", value) for offset, value in enumerate(batch)]
        spark.createDataFrame(rows, SCHEMA).coalesce(1).write.parquet(str(folder / f"batch={index}"))
    records = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).parquet(f"{folder}/*")
    events = observe_invalid(as_events(checked(records, contract), contract, []), [0], "invalid-0")
    events = without_heartbeats(with_watermark(events, contract, "2 minutes"), contract)
    query = (
        count_by_type(events, WINDOW)
        .writeStream.format("memory")
        .queryName("heartbeats")
        .outputMode("append")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    assert found(spark.table("heartbeats")) == expected(times)
    progress = [json.loads(each.json) for each in query.recentProgress]
    assert progress[-1]["eventTime"]["watermark"] == "2013-01-01T00:58:00.000Z"
    assert all(each["stateOperators"][0]["numRowsDroppedByWatermark"] == 0 for each in progress)
    assert [each["observedMetrics"]["invalid-0"]["count_0"] for each in progress if each["numInputRows"]] == [0, 0, 1]
