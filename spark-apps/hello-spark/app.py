"""Counts primes, segment by segment: the smallest app that gives Spark's tasks real work and has a known answer."""

import math

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from streamkit.batch import main
from streamkit.parameters import integer
from streamkit.settings import BatchSettings


def build(spark: SparkSession, settings: BatchSettings) -> DataFrame:
    """Return the primes up to `limit`, counted in `segments` of the same length."""
    limit = integer(settings, "limit", 10, 100_000_000)
    return count_primes(spark, limit, integer(settings, "segments", 1, 10_000))


def count_primes(spark: SparkSession, limit: int, segments: int) -> DataFrame:
    """Count the primes in [2, limit].

    Columns, one row for each segment: segment (int, from 0), first and last (bigint, the numbers it covers, both
    included), primes (bigint, how many of these are prime), largest (bigint, null if none is).
    """
    length = math.ceil((limit - 1) / segments)
    divisors = F.array(*(F.lit(prime).cast("bigint") for prime in primes_up_to(math.isqrt(limit))))
    numbers = spark.range(2, limit + 1, numPartitions=segments)
    # Whatever is not prime has a divisor at or below its own square root; `exists` stops at the first one.
    divided = F.exists(divisors, lambda divisor: (F.col("id") % divisor == 0) & (F.col("id") != divisor))
    prime = F.when(~divided, F.col("id"))
    segment = F.floor((F.col("id") - 2) / length).cast("int")
    return (
        numbers.groupBy(segment.alias("segment"))
        .agg(
            F.min("id").alias("first"),
            F.max("id").alias("last"),
            F.count(prime).alias("primes"),
            F.max(prime).alias("largest"),
        )
        .orderBy("segment")
        .coalesce(1)
    )


def primes_up_to(limit: int) -> list[int]:
    """Return the primes up to a small limit, by the sieve of Eratosthenes."""
    sieve = bytearray([1]) * (limit + 1)
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number in range(2, limit + 1) if sieve[number]]


if __name__ == "__main__":
    main(build)
