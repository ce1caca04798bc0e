"""Adds name and price of the product to each order: Kafka and a reference table in, Delta and Kafka out."""

from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming import DataStreamWriter

from streamkit.contracts import Contract
from streamkit.counting import count_rows
from streamkit.dead_letter import DeadLetters, observe_invalid
from streamkit.lifecycle import main
from streamkit.reference import read_reference
from streamkit.settings import AppSettings
from streamkit.sinks import to_sinks
from streamkit.source import read_messages

QUERY = "stream-join"
COLUMNS = ("order_id", "customer", "sku", "quantity")
KEYS = ("order_id",)


def build(spark: SparkSession, settings: AppSettings, contract: Contract) -> Sequence[DataStreamWriter]:
    """Return the app's one query, ready to be started."""
    products, version = read_reference(spark, settings, QUERY)
    orders = read_messages(spark, settings, contract, COLUMNS, watch=observe_invalid)
    letters = DeadLetters(spark, settings, contract, QUERY) if settings.dead_letter else None
    # Kept in memory, as it is the same for every batch.
    return [to_sinks(enrich(orders, products.persist(), version), settings, QUERY, KEYS, letters)]


def enrich(orders: DataFrame, products: DataFrame, version: int) -> DataFrame:
    """Return each order once, with its product's name, category, unit_price and the amount.

    `matched` is false, and these are null, where the reference table has no such product. Counted as `matched` and
    `unmatched`. `reference_version` is the version of the table that was looked into.
    """
    known = products.select("sku", "name", "category", "unit_price").withColumn("matched", F.lit(True))
    joined = orders.join(F.broadcast(known), "sku", "left")
    matched = F.coalesce("matched", F.lit(False))
    rows = joined.select(
        *(name for name in orders.columns),
        matched.alias("matched"),
        F.col("name").alias("product"),
        "category",
        "unit_price",
        (F.col("unit_price") * F.col("quantity")).cast("decimal(18,2)").alias("amount"),
        F.lit(version).cast("bigint").alias("reference_version"),
    )
    return count_rows(rows, matched=F.col("matched"), unmatched=~F.col("matched"))


if __name__ == "__main__":
    main(build)
