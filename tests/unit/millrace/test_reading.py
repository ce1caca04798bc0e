"""Delta tables in DuckDB, rows as text, and what hello_spark concludes from its table."""

import json
from pathlib import Path

import duckdb
import pytest
from arro3.core import Table
from deltalake import write_deltalake

from millrace import reading
from millrace.errors import MillraceError
from millrace.primes import difference, sieve_of


def write(folder: Path, *values: int) -> str:
    with duckdb.connect() as database:
        rows = database.sql(f"SELECT unnest({list(values)}) AS number")
        assert rows is not None
        write_deltalake(str(folder), Table.from_arrow(rows), mode="overwrite")
    return f"file://{folder}"


def test_the_newest_version_is_read_or_the_one_that_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "t", 1, 2)
    url = write(tmp_path / "t", 3)
    assert reading.newest_version(url) == 1
    with duckdb.connect() as database:
        reading.load(database, "newest", url)
        reading.load(database, "oldest", url, version=0)
        assert database.execute("SELECT number FROM newest").fetchall() == [(3,)]
        assert database.execute("SELECT number FROM oldest ORDER BY 1").fetchall() == [(1,), (2,)]


@pytest.mark.parametrize("version", [None, 7])
def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path: Path, version: int | None) -> None:
    url = write(tmp_path / "t", 1) if version else f"file://{tmp_path}/nothing"
    with duckdb.connect() as database, pytest.raises(MillraceError, match="Cannot read the Delta table") as caught:
        reading.load(database, "t", url, version)
    assert "\n" not in str(caught.value)


def test_rows_are_shown_as_aligned_columns() -> None:
    text = reading.as_text([{"name": "Alice", "age": 25}, {"name": "Bo", "age": None}, {"name": "Eve", "age": 122}])
    assert text.splitlines() == ["name   age", "-----  ---", "Alice   25", "Bo        ", "Eve    122"]
    assert reading.as_text([]) == "(no rows)"


ROWS = [
    {"segment": 0, "first": 2, "last": 10, "primes": 4, "largest": 7},
    {"segment": 1, "first": 11, "last": 19, "primes": 4, "largest": 19},
]


@pytest.mark.parametrize(
    ("row", "change", "words"),
    [
        (0, {"first": 3}, "does not cover the numbers from 2 to 19"),
        (1, {"last": 18}, "does not cover"),
        (1, {"first": 12}, "begins at 12, not right after 10"),
        (0, {"primes": 5}, "Segment 0 says 5 primes, and a sieve finds 4"),
        (1, {"largest": 17}, "largest prime is 17, and a sieve finds 19"),
    ],
)
def test_a_wrong_row_is_named(row: int, change: dict[str, int], words: str) -> None:
    assert difference(ROWS, 19) == ""
    wrong = json.loads(json.dumps(ROWS))
    wrong[row] |= change
    assert words in difference(wrong, 19)


def test_the_sieve_knows_how_many_primes_there_are_and_its_own_limit() -> None:
    assert sieve_of(1_000_000).count(1) == 78_498
    with pytest.raises(MillraceError, match="too large"):
        sieve_of(100_000_001)
