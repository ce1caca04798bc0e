"""Rows and their columns, and a table that several write: what is there is not written again."""

import multiprocessing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from arro3.core import DataType, Field, Schema
from deltalake import DeltaTable, QueryBuilder

from ingest import columns, contracts, simulate
from ingest.columns import arrow_schema, arrow_table, columns_of, stored
from ingest.delta import AppendTable, Marks, storage_options, table_url
from ingest.errors import BadInputError, IngestError
from tests.object_store import object_store

CONTRACT = contracts.load("market-data")
COLUMNS = columns_of(CONTRACT)
DAY = date(2024, 1, 1)


def rows(partition: int, first: int, end: int) -> list[columns.Row]:
    """Rows of a partition, one for each offset from `first` up to `end`."""
    messages = simulate.market(simulate.SimulationSettings(count=end, fast=True))
    where = {"kafka_partition": partition, "kafka_time": datetime(2024, 1, 1, tzinfo=UTC), "event_date": DAY}
    return [stored(COLUMNS, message | where | {"kafka_offset": n}) for n, message in enumerate(messages) if n >= first]


def append(table: AppendTable, partition: int, first: int, end: int) -> int:
    """Append the offsets from `first` up to `end` as `persist` does."""
    name = f"topic/{partition}"

    def missing(held: Marks):
        return arrow_table(COLUMNS, rows(partition, max(first, held.get(name, 0)), end))

    return table.append({name: end}, missing)


def opened(url: str | Path) -> AppendTable:
    return AppendTable(str(url), arrow_schema(COLUMNS), "event_date")


def read(url: str | Path, what: str) -> list[tuple]:
    location = table_url(str(url))
    table = DeltaTable(location, storage_options=storage_options(location) or None)
    found = QueryBuilder().register("t", table).execute(f"SELECT {what} FROM t").read_all()
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def test_a_message_keeps_its_values_and_types(tmp_path):
    message = {
        "schema_version": 1, "event_id": "a/1", "event_type": "trade", "event_time": "2024-02-29T23:59:59.250Z",
        "source": "test", "symbol": "BTC/USDT", "price": 60000, "quantity": None,
        "kafka_partition": 3, "kafka_offset": 2**40, "kafka_time": datetime(2024, 3, 1, tzinfo=UTC),
        "event_date": date(2024, 2, 29),
    }  # fmt: skip
    opened(tmp_path / "t").append({"x": 1}, lambda _: arrow_table(COLUMNS, [stored(COLUMNS, message)]))
    names = "event_id, price, quantity, side, kafka_offset, event_time, event_date, schema_version"
    [row] = read(tmp_path / "t", names)
    instant = datetime(2024, 2, 29, 23, 59, 59, 250_000, tzinfo=UTC)
    assert row == ("a/1", 60000.0, None, None, 2**40, instant, date(2024, 2, 29), 1)
    assert DeltaTable(str(tmp_path / "t")).metadata().partition_columns == ["event_date"]


def test_a_column_has_the_type_that_its_contract_says():
    schema = {
        "properties": {
            "n": {"type": ["integer", "null"]}, "x": {"type": ["number", "integer"]}, "b": {"type": "boolean"},
            "e": {"enum": ["a", None]}, "c": {"const": 7}, "o": {"type": "object"}, "any": {},
            "t": {"type": "string", "format": "date-time"},
        },
        "x-key": "e", "x-event-time": "t", "x-max-bytes": 1000,
    }  # fmt: skip
    found = {column.name: column.type for column in columns_of(contracts.build("t", 1, schema))}
    whole, text = DataType.int64(), DataType.utf8()
    assert [found[name] for name in "nxbec"] == [whole, DataType.float64(), DataType.bool(), text, whole]
    assert (found["o"], found["any"], found["t"]) == (text, text, DataType.timestamp("us", tz="UTC"))
    made = columns_of(contracts.build("t", 1, schema))
    assert stored(made, {"o": {"k": [1]}, "any": 2, "e": "a"})[3:7] == ("a", None, '{"k":[1]}', "2")
    with pytest.raises(ValueError, match="too large"):
        stored(made, {"n": 2**63})


def test_what_the_table_holds_is_not_written_again(tmp_path):
    table = opened(tmp_path / "t")
    assert append(table, 0, 0, 10) == 10
    assert append(table, 0, 0, 10) == 0
    assert append(opened(tmp_path / "t"), 0, 5, 15) == 5  # another member, that begins before the end
    assert (table.mark("topic/0"), table.mark("topic/1")) == (15, None)
    assert sorted(read(tmp_path / "t", "kafka_offset")) == [(n,) for n in range(15)]


def test_two_that_take_each_other_for_dead_write_a_part_once(tmp_path):
    """Both looked when the table held nothing; the slower one meets the other's commit."""
    one, other = opened(tmp_path / "t"), opened(tmp_path / "t")
    assert append(one, 0, 0, 10) == 10
    assert append(other, 0, 0, 12) == 2
    assert append(other, 1, 0, 3) == 3
    assert sorted(read(tmp_path / "t", "kafka_partition, kafka_offset")) == [
        *((0, n) for n in range(12)),
        *((1, n) for n in range(3)),
    ]


def test_members_go_on_while_the_table_is_compacted_and_its_log_is(tmp_path):
    table = opened(tmp_path / "t")
    for end in (5, 10, 15):
        append(table, 0, end - 5, end)
    other = DeltaTable(str(tmp_path / "t"))
    assert other.optimize.compact()["numFilesRemoved"] == 3
    other.create_checkpoint()
    assert append(table, 0, 10, 20) == 5
    other.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert opened(tmp_path / "t").mark("topic/0") == 20
    assert sorted(read(tmp_path / "t", "kafka_offset")) == [(n,) for n in range(20)]


def test_a_batch_without_a_row_moves_the_mark(tmp_path):
    table = opened(tmp_path / "t")
    assert table.append({"topic/0": 7}, lambda _: arrow_table(COLUMNS, [])) == 0
    assert opened(tmp_path / "t").mark("topic/0") == 7


def test_members_of_an_older_version_go_on_writing_after_a_column_was_added(tmp_path):
    old = opened(tmp_path / "t")
    append(old, 0, 0, 3)
    wider = [*COLUMNS, columns.Column("note", DataType.utf8(), DataType.utf8(), str)]
    new = AppendTable(str(tmp_path / "t"), arrow_schema(wider), "event_date")
    new.append({"topic/1": 1}, lambda _: arrow_table(wider, [(*rows(1, 0, 1)[0], "new")]))
    assert append(old, 0, 3, 6) == 3
    assert sorted(read(tmp_path / "t", "kafka_offset, note"), key=str) == sorted(
        [*((n, None) for n in range(6)), (0, "new")], key=str
    )


def member(url: str, partition: int, batches: int) -> None:
    """One of several processes that begin with no table."""
    table = opened(url)
    for number in range(batches):
        append(table, partition, number * 5, number * 5 + 5)


def write_together(url: str) -> None:
    """Let three processes make and write one table: two with a partition each, and two of them the same one."""
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=member, args=(url, partition, 4)) for partition in (0, 1, 1)]
    for each in running:
        each.start()
    for each in running:
        each.join(60)
        assert each.exitcode == 0
    assert sorted(read(url, "kafka_partition, kafka_offset")) == [(p, n) for p in (0, 1) for n in range(20)]


def test_processes_that_make_and_write_a_table_at_once(tmp_path):
    write_together(str(tmp_path / "t"))


def test_processes_that_make_and_write_a_table_on_s3_at_once(monkeypatch):
    with object_store() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        write_together("s3a://millrace/tables/t")


def test_a_table_of_somebody_else_is_refused(tmp_path):
    schema = Schema([Field("a", DataType.int64())])
    DeltaTable.create(str(tmp_path / "t"), schema)
    with pytest.raises(BadInputError, match="partitioned by nothing"):
        opened(tmp_path / "t")


@pytest.mark.parametrize("place", ["/proc/no/table", "nowhere://x/y"])
def test_a_place_that_can_not_be_written_is_one_sentence(place):
    with pytest.raises(BadInputError, match="check --to") as caught:
        opened(place)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_gone_is_one_sentence(tmp_path):
    table = opened(tmp_path / "t")
    (tmp_path / "t").rename(tmp_path / "elsewhere")
    with pytest.raises(IngestError, match="can't be read"):
        table.mark("topic/0")
