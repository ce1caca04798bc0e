"""The check of the enriched orders: it passes what is right, and names whatever is not."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from arro3.core import Table
from deltalake import write_deltalake

from millrace import enrichment, kafka, records

PRODUCTS = [
    "VALUES ('P-1', 'Gear', 'Gears', 4.25::DECIMAL(12, 2), DATE '2025-01-01')",
    "VALUES ('P-1', 'Gear', 'Gears', 4.50::DECIMAL(12, 2), DATE '2026-01-01')",
]
NAMES = "AS t(sku, name, category, unit_price, valid_from)"
TIME = "2026-01-01T00:00:00Z"

Row = dict[str, Any]


def order(number: int, sku: str = "P-1") -> Row:
    fields = {"customer": "C-1", "sku": sku, "quantity": number, "event_time": TIME}
    return {"schema_version": 1, "order_id": f"o-{number}", "source": "test", **fields}


def enriched(source: Row, version: int = 0, price: float = 4.25) -> Row:
    row = {name: source[name] for name in ("order_id", "customer", "sku", "quantity", "event_time")}
    if source["sku"] != "P-1":
        return {**row, "matched": False, "reference_version": version}
    amount = round(price * source["quantity"], 2)
    product = {"product": "Gear", "category": "Gears", "unit_price": price, "amount": amount}
    return {**row, "matched": True, **product, "reference_version": version}


def write(path: Path, query: str) -> None:
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        relation = database.sql(query)
        assert relation is not None
        write_deltalake(str(path), Table.from_arrow(relation), mode="overwrite")


def write_rows(path: Path, found: list[Row]) -> None:
    (path.parent / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in found))
    kinds = (
        "{order_id: 'VARCHAR', customer: 'VARCHAR', sku: 'VARCHAR', quantity: 'BIGINT', event_time: 'TIMESTAMPTZ',"
        " matched: 'BOOLEAN', product: 'VARCHAR', category: 'VARCHAR', unit_price: 'DECIMAL(12,2)',"
        " amount: 'DECIMAL(18,2)', reference_version: 'BIGINT'}"
    )
    write(path, f"SELECT * FROM read_json('{path.parent}/rows.ndjson', columns = {kinds})")


Verify = Callable[..., dict[str, Any]]


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Verify orders against what the two sinks are said to hold; two versions of the reference table are there."""
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    monkeypatch.setattr(kafka, "connection_config", dict)
    (tmp_path / "tables").mkdir()
    for query in PRODUCTS:
        write(tmp_path / "tables/products", f"SELECT * FROM ({query}) {NAMES}")

    def run(orders: list[Row], delta: list[Row], topic: list[Row]) -> dict[str, Any]:
        held = {"orders": orders, "enriched-orders": topic}

        def read(_: Any, name: str) -> list[Any]:
            return [
                SimpleNamespace(
                    key=lambda row=row: row["order_id"].encode(), value=lambda row=row: json.dumps(row).encode()
                )
                for row in held[name]
            ]

        monkeypatch.setattr(records, "read_topic", read)
        write_rows(tmp_path / "tables/enriched_orders", delta)
        return enrichment.verify_orders("orders", "products", "enriched_orders", "enriched-orders")

    return run


ORDERS = [order(1), order(2), order(3, "P-9")]
RIGHT = [enriched(each) for each in ORDERS]


def test_right_is_right_also_if_the_topic_holds_a_row_twice(verify: Verify) -> None:
    bad = {**order(4), "quantity": 0}
    found = verify([*ORDERS, bad], RIGHT, [*RIGHT, RIGHT[0]])
    assert found == {"orders": 3, "matched": 2, "unmatched": 1, "records": 4}


def test_each_row_is_held_against_the_version_it_names(verify: Verify) -> None:
    newer = enriched(ORDERS[1], version=1, price=4.5)
    assert verify(ORDERS, [RIGHT[0], newer, RIGHT[2]], [RIGHT[0], newer, RIGHT[2]])["matched"] == 2


def test_an_order_that_came_twice_is_there_twice(verify: Verify) -> None:
    assert verify([ORDERS[0], ORDERS[0]], [RIGHT[0], RIGHT[0]], [RIGHT[0]])["orders"] == 2


WRONG_PRICE = {**RIGHT[0], "unit_price": 4.5, "amount": 4.5}
UNMATCHED = {**{k: RIGHT[0][k] for k in ("order_id", "customer", "sku", "quantity", "event_time")}, "matched": False}


@pytest.mark.parametrize(
    ("delta", "topic", "words"),
    [
        (RIGHT[:2], RIGHT, "order o-3 in the table is there 0 times, not 1"),
        (RIGHT, RIGHT[1:], "order o-1 in the topic is there 0 times, not 1"),
        ([*RIGHT, RIGHT[1]], RIGHT, "order o-2 in the table is there 2 times, not 1"),
        ([*RIGHT, enriched(order(7))], RIGHT, "order o-7 in the table is there 1 times, not 0"),
        ([WRONG_PRICE, *RIGHT[1:]], RIGHT, "order o-1 in the table has other values"),
        (RIGHT, [*RIGHT, WRONG_PRICE], "order o-1 in the topic has other values"),
        ([{**UNMATCHED, "reference_version": 0}, *RIGHT[1:]], RIGHT, "order o-1 in the table has other values"),
    ],
)
def test_whatever_is_wrong_is_named(verify: Verify, delta: list[Row], topic: list[Row], words: str) -> None:
    with pytest.raises(AirflowFailException, match=words) as caught:
        verify(ORDERS, delta, topic)
    assert str(caught.value).startswith("1 orders differ: ")


def test_nothing_at_all_is_not_taken_for_right(verify: Verify) -> None:
    with pytest.raises(AirflowException, match="no enriched order at all"):
        verify(ORDERS, [], [])


def test_the_version_for_the_stream_is_the_newest(verify: Verify) -> None:
    assert enrichment.reference_version("products") == 1
    with pytest.raises(AirflowException, match="Cannot read the Delta table"):
        enrichment.reference_version("nothing")
