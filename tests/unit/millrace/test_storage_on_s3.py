"""The library's storage on a real S3 gateway, found by the environment that a pod gets."""

import duckdb
import polars as pl
import pytest
from arro3.core import Table
from deltalake import write_deltalake

from millrace import storage, tables
from millrace.errors import MillraceError
from millrace.verification import load_delta
from tests.object_store import object_store


@pytest.fixture(scope="module")
def gateway():
    with object_store() as running:
        yield running.environment


@pytest.fixture(autouse=True)
def s3(gateway, monkeypatch):
    for name, value in gateway.items():
        monkeypatch.setenv(name, value)


def test_files_are_written_read_and_deleted():
    assert storage.write_json({"a": 1}, "reports", "run", "summary.json") == "s3a://millrace/reports/run/summary.json"
    assert storage.read_json("reports", "run", "summary.json") == {"a": 1}
    assert storage.read_json("reports", "run", "other.json") is None
    assert storage.exists("reports")
    assert storage.delete_tree("reports")
    assert not storage.exists("reports")
    assert not storage.delete_tree("reports")


def test_a_stop_request_appears_and_disappears():
    request = storage.stop_file("event-windows")
    request.parent.mkdir(parents=True, exist_ok=True)
    request.touch()
    assert storage.exists("control", "event-windows", "stop")
    request.unlink(missing_ok=True)
    assert not storage.exists("control", "event-windows", "stop")


def test_a_delta_table_is_read():
    address = storage.table_url("windows")
    assert address == "s3://millrace/tables/windows"
    with duckdb.connect() as database:
        rows = database.sql(
            "SELECT TIMESTAMPTZ '2013-01-01 00:00:00+00' AS window_start, "
            "TIMESTAMPTZ '2013-01-01 00:05:00+00' AS window_end, 'departed' AS event_type, 7::BIGINT AS events"
        )
        write_deltalake(address, Table.from_arrow(rows), storage_options=storage.delta_options(address))
        load_delta(database, address)
        assert database.sql("SELECT event_type, events FROM actual_delta").fetchall() == [("departed", 7)]


def test_a_refused_key_is_one_sentence(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    with pytest.raises(MillraceError, match="Cannot write s3://millrace/reports/x"):
        storage.write_text("x", "reports", "x")
    S3FileSystem.clear_instance_cache()


def test_a_delta_table_is_replaced_and_scanned():
    rows = pl.DataFrame({"day": ["2026-01-01", "2026-01-02"], "cases": [1, 2]})
    for _ in range(2):
        tables.replace("cases", rows, "day >= '2026-01-01'", partition_by=["day"])
    assert tables.read("cases", ["cases"], pl.col("day") == "2026-01-02").to_dict(as_series=False) == {"cases": [2]}
    assert not tables.exists("deaths")
