"""Prices by the minute, means, and duplicates: on static frames, and over streaming queries from files."""

import json
from datetime import datetime, timedelta

import pytest
from pyspark.errors import AnalysisException

from streamkit.contracts import load_contract
from streamkit.settings import SettingsError, WindowSettings
from streamkit.source import as_events, checked, deduplicate, with_watermark, without_heartbeats
from streamkit.windows import OHLC_KEYS, averages, ohlc
from tests.unit.streamkit.conftest import REPOSITORY
from tests.unit.streamkit.records import SCHEMA

MINUTE = WindowSettings("1 minute", "1 minute")
START = datetime(2024, 1, 1, 9, 30)
PRICE = "event_time timestamp, event_id string, symbol string, price double, quantity double"


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def candles(spark, rows):
    found = ohlc(spark.createDataFrame(rows, PRICE), MINUTE)
    assert found.select(*OHLC_KEYS).distinct().count() == found.count()
    return {
        (row.window_start, row.symbol): (row.open, row.high, row.low, row.close, row.volume, row.vwap, row.events)
        for row in found.collect()
    }


def test_each_symbol_has_a_row_for_each_minute(spark):
    rows = [
        (after(59.999), "c", "A/B", 12.0, 1.0),
        (after(0), "a", "A/B", 10.0, 3.0),
        (after(30), "b", "A/B", 8.0, 2.0),
        (after(31), "x", "C/B", 5.0, 4.0),
        (after(60), "d", "A/B", 20.0, 1.0),
    ]
    assert candles(spark, rows) == {
        (START, "A/B"): (10.0, 12.0, 8.0, 12.0, 6.0, (30 + 16 + 12) / 6, 3),
        (START, "C/B"): (5.0, 5.0, 5.0, 5.0, 4.0, 5.0, 1),
        (after(60), "A/B"): (20.0, 20.0, 20.0, 20.0, 1.0, 20.0, 1),
    }


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_at_one_instant_the_smaller_id_is_first_and_the_larger_last(spark, order):
    rows = [(after(5), name, "A/B", price, 1.0) for name, price in (("a", 2.0), ("b", 9.0), ("c", 4.0))]
    (found,) = candles(spark, [rows[index] for index in order]).values()
    assert found[:4] == (2.0, 9.0, 2.0, 4.0)


def test_a_price_without_quantity_counts_but_weighs_nothing(spark):
    some = [(after(1), "a", "A/B", 2.0, None), (after(2), "b", "A/B", 4.0, 3.0), (after(3), "c", "A/B", 6.0, 1.0)]
    none = [(after(1), "d", "C/B", 1.1, None), (after(2), "e", "D/B", 1.2, 0.0)]
    found = candles(spark, some + none)
    assert found[START, "A/B"] == (2.0, 6.0, 2.0, 6.0, 4.0, 18 / 4, 3)
    assert found[START, "C/B"] == (1.1, 1.1, 1.1, 1.1, None, None, 1)
    assert found[START, "D/B"] == (1.2, 1.2, 1.2, 1.2, 0.0, None, 1)


def test_prices_and_means_without_a_window_say_so(spark):
    frame = spark.createDataFrame([], PRICE)
    with pytest.raises(SettingsError, match="window: is missing"):
        ohlc(frame, None)
    with pytest.raises(SettingsError, match="window: is missing"):
        averages(frame, None, "symbol", ["price"])


def test_means_are_by_window_and_leave_nulls_out(spark):
    rows = [
        (after(0), "x", 1.0, None),
        (after(61), "x", 2.0, None),
        (after(62), "y", 0.1, 5.5),
        (after(63), "y", 0.2, None),
    ]
    frame = spark.createDataFrame(rows, "event_time timestamp, place string, a double, b double")
    found = averages(frame, WindowSettings("2 minutes", "1 minute"), "place", ["a", "b"])
    assert found.columns == ["window_start", "window_end", "place", "readings", "avg_a", "avg_b"]
    assert {(row.window_start, row.place): row[3:] for row in found.collect()} == {
        (after(-60), "x"): (1, 1.0, None),
        (after(0), "x"): (2, 1.5, None),
        (after(60), "x"): (1, 2.0, None),
        (after(0), "y"): (2, 0.15, 5.5),
        (after(60), "y"): (2, 0.15, 5.5),
    }


def test_a_mean_does_not_depend_on_the_order_of_its_values(spark):
    values = [0.1 * n for n in range(1, 60)] + [12345.6] * 7
    means = set()
    for order in (values, values[::-1], sorted(values, key=lambda value: value % 0.7)):
        rows = [(after(0), "x", value) for value in order]
        frame = spark.createDataFrame(rows, "event_time timestamp, place string, a double").repartition(3)
        means.add(averages(frame, MINUTE, "place", ["a"]).first().avg_a)
    assert len(means) == 1


def trade(seconds: float, name: str, price: float, kind: str = "trade") -> bytes:
    message = {"schema_version": 1, "event_id": name, "event_type": kind, "source": "test"}
    message["event_time"] = after(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(message if kind == "heartbeat" else {**message, "symbol": "A/B", "price": price}).encode()


def test_an_event_that_comes_again_is_dropped_and_counted_and_a_late_one_too(spark, tmp_path):
    """The plan of market-ohlc, from files: duplicates in a batch, in a later one and too late; a late event.

    What is late is decided by the watermark of the batch before, hence two heartbeats.
    """
    batches = [
        [trade(1, "a", 1.0), trade(1, "a", 1.0), trade(2, "b", 3.0)],
        [trade(2, "b", 3.0), trade(61, "c", 5.0)],
        [trade(600, "h", 0, "heartbeat")],
        [trade(601, "g", 0, "heartbeat")],
        [trade(3, "late", 9.0), trade(1, "a", 1.0), trade(610, "i", 0, "heartbeat")],
        [trade(1200, "j", 0, "heartbeat")],
    ]
    folder = tmp_path / "in"
    for index, batch in enumerate(batches):
        rows = [("market-data", 0, 100 * index + offset, START, b"k", value) for offset, value in enumerate(batch)]
        spark.createDataFrame(rows, SCHEMA).coalesce(1).write.parquet(str(folder / f"batch={index}"))
    contract = load_contract(REPOSITORY / "contracts/market-data")
    records = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).parquet(f"{folder}/*")
    events = as_events(checked(records, contract), contract, ["event_id", "symbol", "price", "quantity"])
    events = without_heartbeats(with_watermark(events, contract, "2 minutes"), contract)
    query = (
        ohlc(deduplicate(events, contract), MINUTE)
        .writeStream.format("memory")
        .queryName("prices")
        .outputMode("append")
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    rows = spark.table("prices").orderBy("window_start").collect()
    assert [(row.window_start, row.open, row.close, row.events) for row in rows] == [
        (START, 1.0, 3.0, 2),
        (after(60), 5.0, 5.0, 1),
    ]
    operators = [operator for each in query.recentProgress for operator in json.loads(each.json)["stateOperators"]]
    assert sum(operator["customMetrics"].get("numDroppedDuplicateRows", 0) for operator in operators) == 2
    assert sum(operator["numRowsDroppedByWatermark"] for operator in operators) == 2


@pytest.mark.parametrize("mode", ["update", "complete"])
def test_spark_refuses_other_output_modes_behind_deduplicate(spark, tmp_path, mode):
    """What the READMEs of the apps say."""
    events = spark.readStream.schema(PRICE).parquet(str(tmp_path)).withWatermark("event_time", "2 minutes")
    contract = load_contract(REPOSITORY / "contracts/market-data")
    writer = ohlc(deduplicate(events, contract), MINUTE).writeStream.format("noop").outputMode(mode)
    with pytest.raises(AnalysisException, match="(?i)output mode|multiple stateful"):
        writer.option("checkpointLocation", str(tmp_path / "checkpoint")).start()


def test_deduplicate_needs_the_id(spark, contract):
    with pytest.raises(ValueError, match="deduplicate needs event_id"):
        deduplicate(spark.createDataFrame([], "event_time timestamp, symbol string"), contract)
