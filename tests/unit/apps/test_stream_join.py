"""reference-data and stream-join: prices of a day, and orders with or without a product."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from ingest.lists import SKUS, orders
from streamkit.batch import BatchError
from streamkit.contracts import load_contract
from streamkit.counting import row_counts
from streamkit.dead_letter import observed_metrics
from streamkit.session import spark_conf
from streamkit.settings import SettingsError, load_batch_settings, load_settings
from streamkit.source import as_messages, checked
from tests.unit.streamkit.records import frame

REPOSITORY = Path(__file__).parents[3]
APPS = REPOSITORY / "spark-apps"
ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "file:///data"}
HEADER = "sku,name,category,unit_price,valid_from\n"


def batch_settings(*overrides: str):
    return load_batch_settings(APPS / "reference-data/settings.yaml", overrides, ENVIRONMENT)


def products(app, spark, *overrides: str):
    return app("reference-data").build(spark, batch_settings(*overrides))


def prices(app, spark, day: str) -> dict[str, Decimal]:
    rows = products(app, spark, f"parameters.as_of={day}").collect()
    assert len({row.sku for row in rows}) == len(rows)
    return {row.sku: row.unit_price for row in rows}


def test_of_each_product_the_price_of_the_day_holds(app, spark):
    assert prices(app, spark, "2024-12-31") == {}
    before, on, after = (prices(app, spark, day) for day in ("2026-02-28", "2026-03-01", "2026-06-01"))
    assert (before["P-1001"], on["P-1001"], after["P-1001"]) == (Decimal("49.90"), Decimal("54.90"), Decimal("54.90"))
    assert "P-1025" not in on and after["P-1025"] == Decimal("129.00")
    # Of what is ordered one thing is never in the list: the join's unmatched orders.
    assert set(SKUS) - after.keys() == {"P-1026"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("P-1,Gear,Gears,0,2025-01-01", "no price above 0"),
        ("P-1,Gear,Gears,cheap,2025-01-01", "is incomplete"),
        ("P-1,,Gears,1.00,2025-01-01", "is incomplete"),
        ("P-1,Gear,Gears,1.00,soon", "is incomplete"),
        ("P-1,Gear,Gears", "is incomplete"),
        ("P-2,Axle,Shafts,3.00,2025-01-01", "P-2 has two prices from 2025-01-01"),
    ],
)
def test_a_bad_line_is_named_and_no_table_is_made_of_the_rest(app, spark, tmp_path, line, words):
    (tmp_path / "list.csv").write_text(f"{HEADER}P-2,Axle,Shafts,2.10,2025-01-01\n{line}\n")
    with pytest.raises(BatchError, match=words) as caught:
        products(app, spark, f"parameters.source=file://{tmp_path}/list.csv")
    assert "list.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_price_list_of_one_s_own_is_taken(app, spark, tmp_path):
    (tmp_path / "list.csv").write_text(f"{HEADER}X,Thing,Things,2.5,2025-01-01\n")
    (row,) = products(app, spark, f"parameters.source=file://{tmp_path}/list.csv").collect()
    assert tuple(row) == ("X", "Thing", "Things", Decimal("2.50"), date(2025, 1, 1))


@pytest.mark.parametrize("value", ["today", "2026-13-01", "''"])
def test_a_bad_day_is_one_sentence(app, spark, value):
    with pytest.raises(SettingsError, match=r"parameters.as_of"):
        products(app, spark, f"parameters.as_of={value}")


def messages(spark, values: list[bytes]):
    contract = load_contract(REPOSITORY / "contracts/orders")
    records = frame(spark, [(b"k", value) for value in values])
    return as_messages(checked(records, contract), contract, ["order_id", "customer", "sku", "quantity"])


def test_every_order_goes_out_once_with_its_product_or_without(app, spark):
    sent = list(orders(200, 1))
    values = [json.dumps(order).encode() for order in sent]
    broken = json.dumps({**sent[0], "quantity": 0}).encode()
    table = products(app, spark, "parameters.as_of=2026-02-01")
    joined = app("stream-join").enrich(messages(spark, [*values, broken]), table, 7)
    rows = {row.order_id: row for row in joined.collect()}
    assert rows.keys() == {order["order_id"] for order in sent}
    known = {row.sku: row for row in table.collect()}
    for order in sent:
        row, product = rows[order["order_id"]], known.get(order["sku"])
        assert (row.customer, row.sku, row.quantity) == (order["customer"], order["sku"], order["quantity"])
        assert row.reference_version == 7
        if product is None:
            assert (row.matched, row.product, row.category, row.unit_price, row.amount) == (False, *[None] * 4)
        else:
            assert (row.matched, row.product, row.unit_price) == (True, product.name, product.unit_price)
            assert row.amount == product.unit_price * order["quantity"]
    unmatched = sum(order["sku"] not in known for order in sent)
    assert unmatched > 0
    counts = row_counts(observed_metrics(joined._jdf.queryExecution()))
    assert counts == {"matched": 200 - unmatched, "unmatched": unmatched}


def test_the_settings_are_those_promised_and_the_topics_are_there():
    found = load_settings(APPS / "stream-join/settings.yaml", environment=ENVIRONMENT)
    assert found.reference and found.reference.version is None
    assert found.reference.path == batch_settings().table.path == "file:///data/tables/products"
    assert found.sinks.delta and found.sinks.kafka and found.dead_letter
    assert load_contract(found.source.contract).topic == found.source.topic
    topics = yaml.safe_load((REPOSITORY / "contracts/topics.yaml").read_text())["topics"]
    assert {found.source.topic, found.sinks.kafka.topic, found.dead_letter.topic} <= set(topics)
    assert spark_conf(found)["spark.sql.extensions"].startswith("io.delta.")


@pytest.mark.parametrize("value", ["-1", "newest"])
def test_a_bad_version_is_one_sentence(value):
    with pytest.raises(SettingsError, match=r"reference: version"):
        load_settings(APPS / "stream-join/settings.yaml", [f"reference.version={value}"], ENVIRONMENT)
