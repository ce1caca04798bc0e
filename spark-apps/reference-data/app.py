"""Prepares the products that stream-join looks orders up in: of each product the price that holds on a day."""

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streamkit.batch import BatchError, main
from streamkit.parameters import day
from streamkit.settings import BatchSettings

SOURCE = Path(__file__).resolve().with_name("products.csv")
SCHEMA = "sku string, name string, category string, unit_price decimal(12,2), valid_from date"


def build(spark: SparkSession, settings: BatchSettings) -> DataFrame:
    """Return the products as of the day that the settings name."""
    source = settings.parameters.get("source") or SOURCE.as_uri()
    prices = spark.read.csv(source, schema=SCHEMA, header=True, enforceSchema=False, mode="PERMISSIVE")
    refuse_bad(prices, source)
    return as_of(prices, day(settings, "as_of").isoformat())


def refuse_bad(prices: DataFrame, source: str) -> None:
    """Raise BatchError if a price list holds a line that can't be used: better no new table than a part of one."""
    complete = [F.col(name).isNotNull() for name in prices.columns]
    good = (F.col("unit_price") > 0) & complete[0] & complete[1] & complete[2] & complete[4]
    bad = prices.where(~F.coalesce(good, F.lit(False))).take(1)
    if bad:
        raise BatchError(f"{source}: a line is incomplete or has no price above 0 ({bad[0].asDict()}): correct it")
    twice = prices.groupBy("sku", "valid_from").count().where("count > 1").take(1)
    if twice:
        raise BatchError(f"{source}: {twice[0].sku} has two prices from {twice[0].valid_from}: leave one")


def as_of(prices: DataFrame, as_of_day: str) -> DataFrame:
    """Return, of each product that is sold on a day, the line that holds: the newest of those that have begun."""
    newest = F.max_by(F.struct("name", "category", "unit_price", "valid_from"), "valid_from").alias("line")
    begun = prices.where(F.col("valid_from") <= F.lit(as_of_day).cast("date"))
    return begun.groupBy("sku").agg(newest).select("sku", "line.*").orderBy("sku").coalesce(1)


if __name__ == "__main__":
    main(build)
