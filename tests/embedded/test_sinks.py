"""Sinks on the real engines: ClickHouse's (chDB, behind its HTTP interface) and OpenSearch's own server."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from embedded import jars
from streamkit import http_sink
from streamkit.errors import first_line, java_line
from streamkit.settings import load_settings
from streamkit.sinks import batch_writer
from tests.certificates import Authority
from tests.embedded.engines import ClickHouse, OpenSearch
from tests.embedded.spark_driver import PARTITIONS, message, windows_of
from tests.unit.spark_session import spark

__all__ = ["spark"]

pytestmark = pytest.mark.embedded

REPOSITORY = Path(__file__).parents[2]
DAY = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = "at timestamp, kind string, n long, x double"
KEYS = ("at", "kind")
TABLE = "(at DateTime64(6, 'UTC'), kind String, n Int64, x Nullable(Float64))"
TOKENS = "SETTINGS non_replicated_deduplication_window = 100"
Write = Callable[[DataFrame, int], None]


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory) -> Iterator[ClickHouse]:
    server = ClickHouse(tmp_path_factory.mktemp("clickhouse"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def opensearch(java, jar_cache, tmp_path_factory) -> Iterator[OpenSearch]:
    directory = jars.fetch(java, jar_cache, names=["opensearch"])["opensearch"]
    server = OpenSearch(tmp_path_factory.mktemp("opensearch"), directory)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def name() -> str:
    """A table or an index of one test's own."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def writer(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Write]:
    """Make what writes the batches of a query, in pieces of some 40 rows."""
    monkeypatch.setattr(http_sink, "ROWS_PER_PIECE", 40)
    # What a driver's environment has, for the tasks.
    monkeypatch.setitem(spark.sparkContext.environment, "PYTHONPATH", str(REPOSITORY / "spark-apps"))

    def make(sinks: dict[str, Any], mode: str = "append", **environment: str) -> Write:
        tree = {"application": "test", "source": {"topic": "t", "contract": "c"}, "sinks": sinks, "output_mode": mode}
        path = tmp_path / "settings.yaml"
        path.write_text(json.dumps(tree))
        known = {"MILLRACE_STORAGE": f"file://{tmp_path}", "KAFKA_BOOTSTRAP_SERVERS": "none:1", **environment}
        settings = load_settings(path, environment=known)
        checkpoint = tmp_path / "checkpoints/test/q"
        checkpoint.mkdir(parents=True, exist_ok=True)
        (checkpoint / "metadata").write_text(json.dumps({"id": tmp_path.name}))
        return batch_writer(settings, "q", KEYS)

    return make


def rows_of(spark: SparkSession, count: int = 150, times: int = 1, again: bool = False) -> DataFrame:
    """A batch, as it comes the first time or (`again`) when it is run again: in another order and other partitions."""
    rows = [(DAY + timedelta(microseconds=i), "ab"[i % 2], i * times, None if i % 3 else i / 7) for i in range(count)]
    return spark.createDataFrame(rows[::-1] if again else rows, SCHEMA).repartition(4 if again else 2)


def expected(count: int = 150, times: int = 1) -> list[tuple[str, int]]:
    return sorted(((DAY + timedelta(microseconds=i)).strftime("%F %T.%f"), i * times) for i in range(count))


def in_table(clickhouse: ClickHouse, name: str, final: str = "") -> list[tuple[str, int]]:
    return sorted((row["at"], row["n"]) for row in clickhouse.query(f"SELECT at, n FROM {name} {final}"))


def into(clickhouse: ClickHouse, name: str, **more: Any) -> dict[str, Any]:
    return {"clickhouse": {"url": clickhouse.url, "table": name, **more}}


def test_clickhouse_has_each_row_of_a_batch_once_however_often_it_is_run(spark, writer, clickhouse, name):
    clickhouse.query(f"CREATE TABLE {name} {TABLE} ENGINE = MergeTree ORDER BY at {TOKENS}")
    writer(into(clickhouse, name))(rows_of(spark), 3)
    assert in_table(clickhouse, name) == expected()
    # A new driver, which knows nothing of the first.
    writer(into(clickhouse, name))(rows_of(spark, again=True), 3)
    assert in_table(clickhouse, name) == expected()
    row = clickhouse.query(f"SELECT * FROM {name} WHERE n = 3")[0]
    assert row == {"at": "2013-01-01 00:00:00.000003", "kind": "b", "n": 3, "x": 3 / 7}
    assert clickhouse.query(f"SELECT count() AS nulls FROM {name} WHERE x IS NULL") == [{"nulls": 100}]
    # It is the batch that is known, not what is in it.
    writer(into(clickhouse, name))(rows_of(spark), 4)
    assert len(in_table(clickhouse, name)) == 300


def test_clickhouse_gets_the_rest_of_a_batch_that_failed_halfway(spark, writer, clickhouse, name):
    check = "CONSTRAINT small CHECK n != 77"
    clickhouse.query(f"CREATE TABLE {name} {TABLE[:-1]}, {check}) ENGINE = MergeTree ORDER BY at {TOKENS}")
    with pytest.raises(Exception, match="VIOLATED_CONSTRAINT") as caught:
        writer(into(clickhouse, name))(rows_of(spark), 0)
    assert first_line(caught.value).startswith(f"SinkError: ClickHouse at {clickhouse.url} refuses batch 0 for default")
    assert 0 < len(in_table(clickhouse, name)) < 150
    clickhouse.query(f"ALTER TABLE {name} DROP CONSTRAINT small")
    writer(into(clickhouse, name))(rows_of(spark, again=True), 0)
    assert in_table(clickhouse, name) == expected()


def test_clickhouse_keeps_the_newest_of_rows_that_are_replaced(spark, writer, clickhouse, name):
    table = f"{TABLE[:-1]}, batch UInt64) ENGINE = ReplacingMergeTree(batch) ORDER BY (at, kind)"
    clickhouse.query(f"CREATE TABLE {name} {table} {TOKENS}")
    write = writer(into(clickhouse, name, version_column="batch"), "update")
    write(rows_of(spark, times=1), 0)
    write(rows_of(spark, count=75, times=2), 1)
    write(rows_of(spark, count=75, times=2, again=True), 1)
    assert in_table(clickhouse, name, "FINAL") == sorted(expected(75, 2) + expected()[75:])
    assert clickhouse.query(f"SELECT count() AS rows FROM {name} WHERE batch = 1") == [{"rows": 75}]


@pytest.mark.parametrize(
    ("engine", "settings", "reason"),
    [
        (f"MergeTree ORDER BY at {TOKENS}", {"table": "absent"}, "no table default.absent: create it first"),
        ("MergeTree ORDER BY at", {}, "ALTER TABLE .* MODIFY SETTING non_replicated_deduplication_window = 1000"),
        ("Memory", {}, "has the engine Memory, which keeps no deduplication tokens"),
        (f"MergeTree ORDER BY at {TOKENS}", {"version_column": "n"}, r"with the engine ReplacingMergeTree\(n\)"),
        (f"MergeTree ORDER BY at {TOKENS}", {"options": {"max_threads": "many"}}, "Cannot parse .*'many'"),
    ],
)
def test_clickhouse_is_refused_what_would_not_come_once(spark, writer, clickhouse, name, engine, settings, reason):
    clickhouse.query(f"CREATE TABLE {name} {TABLE} ENGINE = {engine}")
    with pytest.raises(Exception, match=reason) as caught:
        writer(into(clickhouse, **{"name": name, **settings}))(rows_of(spark), 0)
    assert "\n" not in first_line(caught.value)
    assert in_table(clickhouse, name) == []


def test_clickhouse_makes_no_zero_of_a_null(spark, writer, clickhouse, name):
    clickhouse.query(f"CREATE TABLE {name} {TABLE} ENGINE = MergeTree ORDER BY at {TOKENS}")
    rows = spark.createDataFrame([(DAY, "a", None, 1.0)], SCHEMA)
    with pytest.raises(Exception, match=f"a row of batch 0 has no n, and default.{name} takes no null there"):
        writer(into(clickhouse, name))(rows, 0)
    assert in_table(clickhouse, name) == []


def test_clickhouse_is_waited_for_within_the_limit(spark, writer, clickhouse, name):
    clickhouse.query(f"CREATE TABLE {name} {TABLE} ENGINE = MergeTree ORDER BY at {TOKENS}")
    clickhouse.kill()
    with pytest.raises(Exception, match="did not answer in 2 tries .*Connection refused"):
        writer(into(clickhouse, name, retries=1))(rows_of(spark), 0)
    revival = threading.Timer(1, clickhouse.start)
    revival.start()
    writer(into(clickhouse, name))(rows_of(spark), 0)
    revival.join()
    assert in_table(clickhouse, name) == expected()


def test_clickhouse_over_tls_knows_the_user_and_is_known_by_its_authority(spark, writer, tmp_path, name):
    authority = Authority(tmp_path / "authority")
    server = ClickHouse(tmp_path)
    server.secure(authority.sign("server", "clickhouse", server=True), authority.path, ("stream", "secret"))
    sink = into(server, name, retries=1)
    known = {"CLICKHOUSE_USERNAME": "stream", "CLICKHOUSE_PASSWORD": "secret"}
    trusted = {"CLICKHOUSE_CA_LOCATION": str(authority.path)}
    try:
        server.start()
        server.query(f"CREATE TABLE {name} {TABLE} ENGINE = MergeTree ORDER BY at {TOKENS}")
        writer(sink, **known, **trusted)(rows_of(spark), 0)
        assert in_table(server, name) == expected()
        with pytest.raises(Exception, match="has no certificate that is trusted .*correct CLICKHOUSE_CA_LOCATION"):
            writer(sink, **known)(rows_of(spark), 1)
        wrong = {**known, "CLICKHOUSE_PASSWORD": "guess"}
        with pytest.raises(Exception, match="refuses the user .*CLICKHOUSE_USERNAME and CLICKHOUSE_PASSWORD") as caught:
            writer(sink, **wrong, **trusted)(rows_of(spark), 1)
        assert "guess" not in str(caught.value)
    finally:
        server.kill()


def indexed(opensearch: OpenSearch, name: str) -> list[tuple[str, int]]:
    found = opensearch.documents(name)
    return sorted((datetime.fromisoformat(each["at"]).strftime("%F %T.%f"), each["n"]) for each in found)


def make_index(opensearch: OpenSearch, name: str) -> dict[str, Any]:
    fields = {"at": "date_nanos", "kind": "keyword", "n": "integer", "x": "double"}
    mappings = {"dynamic": "strict", "properties": {field: {"type": kind} for field, kind in fields.items()}}
    opensearch.ask("PUT", name, {"mappings": mappings, "settings": {"number_of_replicas": 0}})
    return {"opensearch": {"url": opensearch.url, "index": name}}


def test_opensearch_has_each_row_of_a_batch_once_however_often_it_is_run(spark, writer, opensearch, name):
    sink = make_index(opensearch, name)
    writer(sink)(rows_of(spark), 3)
    assert indexed(opensearch, name) == expected()
    writer(sink)(rows_of(spark, again=True), 3)
    assert indexed(opensearch, name) == expected()
    writer(sink, "update")(rows_of(spark, count=75, times=2), 4)
    assert indexed(opensearch, name) == sorted(expected(75, 2) + expected()[75:])


def test_opensearch_says_how_many_documents_it_refuses_and_why_the_first(spark, writer, opensearch, name):
    write = writer(make_index(opensearch, name))
    too_large = spark.createDataFrame([(DAY + timedelta(seconds=i), "a", i << 31, None) for i in range(6)], SCHEMA)
    with pytest.raises(Exception, match="refuses 5 of 6 documents of batch 0") as caught:
        write(too_large, 0)
    assert "out of range of int" in first_line(caught.value)
    assert "\n" not in first_line(caught.value)


def test_opensearch_without_the_index_or_with_rows_that_share_an_id_is_an_error(spark, writer, opensearch, name):
    sink = make_index(opensearch, name)
    sink["opensearch"]["id_columns"] = ["kind"]
    with pytest.raises(Exception, match="two rows of batch 0 have the same kind, and would be one document"):
        writer(sink)(rows_of(spark), 0)
    sink["opensearch"]["index"] = "absent"
    with pytest.raises(Exception, match="has no index absent: create it first"):
        writer(sink)(rows_of(spark), 0)


def test_a_stream_whose_sink_fails_ends_with_one_clear_reason(spark, writer, opensearch, name, tmp_path):
    sink = make_index(opensearch, name)
    sink["opensearch"]["id_columns"] = ["kind"]
    stream = spark.readStream.format("rate-micro-batch").options(rowsPerBatch=5, numPartitions=1).load()
    rows = stream.selectExpr("timestamp AS at", "'a' AS kind", "value AS n", "0.5D AS x")
    query = rows.writeStream.foreachBatch(writer(sink)).option("checkpointLocation", str(tmp_path / "own")).start()
    with pytest.raises(Exception, match="two rows of batch 0"):
        query.awaitTermination(60)
    reason = java_line(query._jsq.exception().get())
    assert reason.startswith("SinkError: two rows of batch 0 have the same kind")


def test_a_driver_killed_after_the_insert_and_before_the_commit_repeats_nothing(topics, driver, clickhouse, name):
    """The worst moment, made to last: ClickHouse carries the insert out, and does not answer."""
    columns = "(window_start DateTime('UTC'), window_end DateTime('UTC'), event_type String, events UInt64)"
    clickhouse.query(f"CREATE TABLE {name} {columns} ENGINE = MergeTree ORDER BY window_start {TOKENS}")
    day = DAY.replace(tzinfo=None)
    events = [(day + timedelta(seconds=20 * i), "departed") for i in range(180)]
    for partition in range(PARTITIONS):
        topics.send(partition, [message(*event) for event in events[partition::PARTITIONS]])
    topics.heartbeats(day + timedelta(hours=2))
    app = driver("sinks.kafka=null", "sinks.delta=null", f"sinks.clickhouse={{url: '{clickhouse.url}', table: {name}}}")
    counted = f"SELECT window_start, event_type, events FROM {name}"
    clickhouse.hold(True)
    try:
        app.start()
        deadline = time.monotonic() + 120
        while not clickhouse.query(counted):
            assert app.process.poll() is None, app.tail()
            assert time.monotonic() < deadline, app.tail()
            time.sleep(0.05)
        app.kill()
    finally:
        clickhouse.hold(False)
    app.start()
    app.wait_for_watermark(day + timedelta(hours=1, minutes=30))
    assert app.stop() == 0
    found = [(datetime.fromisoformat(row["window_start"]), row["event_type"]) for row in clickhouse.query(counted)]
    assert len(found) == len(set(found))
    counts = [row["events"] for row in clickhouse.query(counted)]
    assert dict(zip(found, counts, strict=True)) == windows_of(events)
