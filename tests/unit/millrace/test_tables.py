"""Delta tables by name, in a folder."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from millrace import tables
from millrace.errors import MillraceError

ROWS = pl.DataFrame(
    {
        "day": [date(2026, 1, 1), date(2026, 1, 2)],
        "at": [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)],
        "cases": [1, 2],
    }
)
SECOND_DAY = "day >= '2026-01-02' AND day < '2026-01-03'"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    return tmp_path


def load(rows: pl.DataFrame, predicate: str = "day >= '2026-01-01' AND day < '2026-01-03'") -> None:
    tables.replace("cases", rows, predicate, partition_by=["day"])


def test_written_twice_is_as_written_once() -> None:
    for _ in range(2):
        load(ROWS)
    assert tables.read("cases").sort("day").equals(ROWS)


def test_only_the_range_is_replaced() -> None:
    load(ROWS)
    load(ROWS[1:].with_columns(cases=20), SECOND_DAY)
    assert tables.read("cases").sort("day")["cases"].to_list() == [1, 20]


def test_nothing_in_the_place_of_something_deletes_it() -> None:
    load(ROWS)
    load(ROWS[:0], SECOND_DAY)
    assert tables.read("cases")["day"].to_list() == [date(2026, 1, 1)]


def test_a_row_outside_of_the_range_is_refused_and_nothing_is_written() -> None:
    load(ROWS)
    with pytest.raises(MillraceError, match="Cannot write the Delta table .*cases: "):
        load(ROWS, SECOND_DAY)
    assert tables.read("cases").sort("day").equals(ROWS)


def test_other_columns_are_refused() -> None:
    load(ROWS)
    with pytest.raises(MillraceError, match="check its columns"):
        load(ROWS.drop("at"))


def test_what_is_not_asked_for_is_not_read() -> None:
    load(ROWS)
    found = tables.read("cases", ["cases"], pl.col("day") > date(2026, 1, 1))
    assert found.to_dict(as_series=False) == {"cases": [2]}
    plan = tables.scan("cases").filter(pl.col("day") > date(2026, 1, 1)).select("cases").explain()
    assert "day=2026-01-02" in plan
    assert "day=2026-01-01" not in plan


def test_a_missing_table_and_a_missing_column_are_one_sentence() -> None:
    assert not tables.exists("cases")
    with pytest.raises(MillraceError, match="There is no Delta table at .*cases: run the DAG"):
        tables.read("cases")
    load(ROWS)
    assert tables.exists("cases")
    with pytest.raises(MillraceError, match="deaths"):
        tables.read("cases", ["deaths"])


def test_maintenance_joins_files_and_keeps_rows(storage: Path) -> None:
    for _ in range(5):
        tables.append("cases", ROWS, partition_by=["day"])
    before = len(tables.open_table("cases").file_uris())
    assert tables.maintain("cases", timedelta(0), [("day", "=", "2026-01-02")]) == 5
    assert (before, len(tables.open_table("cases").file_uris())) == (10, 6)
    assert tables.read("cases").height == 10
    assert len(list((storage / "tables" / "cases").rglob("*.parquet"))) == 6
