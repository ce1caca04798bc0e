"""adults and stream-join on a real broker, started by spark-submit as the embedded target starts them."""

import json
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from arro3.core import Table
from deltalake import DeltaTable, write_deltalake

from ingest.lists import orders, people
from streamkit.checkpoint import inspect, local_listing
from tests.embedded.spark_driver import PARTITIONS, REPOSITORY, Driver, Topics

pytestmark = pytest.mark.embedded

ORDERS = [json.dumps(order).encode() for order in orders(1500, 5)]
MakeDriver = Callable[..., Driver]


def app(driver: MakeDriver, topics: Topics, name: str, *overrides: str) -> Driver:
    settings = (f"dead_letter.topic={topics.dead}", *overrides)
    return driver(*settings, app=REPOSITORY / "spark-apps" / name, name=name)


def read_rows(app: Driver) -> int:
    return sum(batch["numInputRows"] for batch in app.progress())


def clean(app: Driver) -> bool:
    return inspect(str(app.checkpoint / app.name), local_listing).clean


def values(topics: Topics) -> list[dict[str, Any]]:
    return [json.loads(record.value()) for record in topics.read(topics.windows)]


def test_adults_keeps_counts_and_sets_aside(topics: Topics, driver: MakeDriver) -> None:
    sent = [json.dumps(person).encode() for person in people()]
    for number, value in enumerate(sent):
        topics.send(number % PARTITIONS, [value], f"k{number}".encode())
    topics.send(2, [b'{"name": "Mallory"', sent[0].replace(b'"age":25', b'"age":"25"').replace(b": 25", b': "25"')])
    topics.producer.flush()
    stream = app(driver, topics, "adults")
    stream.start()
    stream.wait_for("all people", lambda _: read_rows(stream) == len(sent) + 2)
    with urllib.request.urlopen(f"http://127.0.0.1:{stream.port}/metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert stream.stop() == 0
    assert clean(stream)
    assert {row["name"]: row["age"] for row in values(topics)} == {"Alice": 25, "Charlie": 30, "Eve": 22}
    letters = [dict(record.headers()) for record in topics.read(topics.dead)]
    assert sorted(letter["reason"] for letter in letters) == [
        b"invalid age: '25' is not of type integer",
        b"malformed JSON",
    ]
    for kind, count in (("kept", 3), ("dropped", 2)):
        assert f'stream_rows_total{{application="adults",kind="{kind}",query="adults"}} {count:.1f}' in metrics
    assert 'stream_dead_letters_total{application="adults",query="adults"} 2.0' in metrics


def write_products(storage: Path, factor: int) -> None:
    """Write a version of the reference table: every product but one, at a price that tells the version."""
    with duckdb.connect() as database:
        relation = database.sql(
            "SELECT 'P-' || n AS sku, 'Product ' || n AS name, 'Things' AS category, "
            f"({factor} * n)::DECIMAL(12, 2) AS unit_price, DATE '2025-01-01' AS valid_from FROM range(1001, 1026) t(n)"
        )
        assert relation is not None
        write_deltalake(str(storage / "tables/products"), Table.from_arrow(relation), mode="overwrite")


def table(storage: Path) -> list[dict[str, Any]]:
    files = DeltaTable(str(storage / "tables/enriched_orders")).file_uris()
    with duckdb.connect() as database:
        cursor = database.execute("SELECT * EXCLUDE (event_time) FROM read_parquet(?)", [files])
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def facts(rows: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """What both sinks must agree on."""
    return {
        (row["order_id"], row["quantity"], row["matched"], row.get("product"), row["reference_version"])
        + ((float(row["amount"]),) if row["matched"] else ())
        for row in rows
    }


def expected(versions: dict[str, int]) -> set[tuple[Any, ...]]:
    """The same, computed here; `versions` says which one each order was joined with."""
    found: set[tuple[Any, ...]] = set()
    for order in map(json.loads, ORDERS):
        number, version = int(order["sku"][2:]), versions[order["order_id"]]
        head = (order["order_id"], order["quantity"], number <= 1025)
        if number > 1025:
            found.add((*head, None, version))
        else:
            found.add((*head, f"Product {number}", version, float((version + 1) * number * order["quantity"])))
    return found


def test_stream_join_survives_whatever_kills_it(topics: Topics, driver: MakeDriver, tmp_path: Path) -> None:
    """One sink is written and the other is not; then SIGKILL at work; then the rest."""
    storage = tmp_path / "storage"
    write_products(storage, 1)
    for number, value in enumerate(ORDERS):
        topics.send(number % PARTITIONS, [value], json.loads(value)["order_id"].encode())
    topics.producer.flush()
    small = "source.max_offsets_per_trigger=120"
    # The table takes the first batch; the topic isn't there.
    nowhere = f"sinks.kafka.topic={topics.windows}-missing"
    first = app(driver, topics, "stream-join", small, nowhere, "sinks.kafka.options.kafka.max.block.ms=2000")
    first.start()
    assert first.wait(240) == 1
    written = table(storage)
    assert 0 < len(written) <= 126 and not topics.read(topics.windows)
    assert not clean(first)

    # Newer prices, but the batch that is half done keeps those that the table has.
    write_products(storage, 2)
    second = app(driver, topics, "stream-join", small)
    second.start()
    second.wait_for("a few batches", lambda found: len(found) >= 3)
    second.kill()
    kept = {row["order_id"] for row in written}
    assert facts([row for row in values(topics) if row["order_id"] in kept]) == facts(written)
    assert any("its reference version is kept" in message for message in second.messages("WARNING"))

    third = app(driver, topics, "stream-join")
    third.start()
    third.wait_for("the rest", lambda found: found and caught_up(found[-1]))
    assert third.stop() == 0
    assert clean(third)
    rows = table(storage)
    versions = {row["order_id"]: row["reference_version"] for row in rows}
    assert set(Counter(row["order_id"] for row in rows).values()) == {1}
    assert len(rows) == len(ORDERS)
    assert facts(rows) == facts(values(topics)) == expected(versions)
    assert not topics.read(topics.dead)


def caught_up(batch: dict[str, Any]) -> bool:
    """Whether nothing lies behind a batch. One that an earlier driver had planned does not know the latest offsets."""
    return all(source["endOffset"] == source["latestOffset"] for source in batch["sources"])


def test_without_its_reference_table_stream_join_says_what_to_run(topics: Topics, driver: MakeDriver) -> None:
    stream = app(driver, topics, "stream-join")
    stream.start()
    assert stream.wait(240) == 2
    (error,) = stream.messages("ERROR")
    assert "tables/products: no Delta table can be read there" in error
    assert error.endswith("run the batch app that makes it first")
