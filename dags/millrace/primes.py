"""What `hello_spark` does with its table of primes: reads it back, shows it, and counts again in another way."""

import logging
import math
from itertools import pairwise
from typing import Any

from millrace.errors import MillraceError

COLUMNS = ("segment", "first", "last", "primes", "largest")
SHOWN = 20
"""Rows of the table that the log shows at most."""

log = logging.getLogger(__name__)


def show_primes(table: str, limit: int) -> dict[str, Any]:
    """Read the table that the application made, log it, and compare every row with a sieve.

    Returns limit, primes and largest. Raises AirflowFailException if a row differs: trying again gives the same.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import reading, storage
    from millrace.operators.base import one_sentence
    from millrace.verification import connection, rows

    with one_sentence(log), connection() as database:
        reading.load(database, "primes", storage.table_url(table))
        found = rows(database, f"SELECT {', '.join(COLUMNS)} FROM primes ORDER BY segment")  # noqa: S608 - constants
    log.info("The table %s holds:\n%s", table, reading.as_text(found[:SHOWN]))
    if problem := difference(found, limit):
        log.error("%s", problem)
        raise AirflowFailException(problem)
    result = {
        "limit": limit,
        "primes": sum(row["primes"] for row in found),
        "largest": max(row["largest"] or 0 for row in found),
    }
    log.info("There are %(primes)d primes up to %(limit)d; the largest is %(largest)d", result)
    return result


def difference(found: list[dict[str, Any]], limit: int) -> str:
    """Say what is wrong with rows of the table (sorted by segment), or return an empty string.

    The segments must cover [2, limit] without a gap, and each must count its primes.
    """
    if not found or found[0]["first"] != 2 or found[-1]["last"] != limit:
        return f"The table does not cover the numbers from 2 to {limit}: see the log of the driver."
    for before, after in pairwise(found):
        if after["first"] != before["last"] + 1:
            return f"Segment {after['segment']} begins at {after['first']}, not right after {before['last']}."
    sieve = sieve_of(limit)
    for row in found:
        primes = sieve.count(1, row["first"], row["last"] + 1)
        if row["primes"] != primes:
            return f"Segment {row['segment']} says {row['primes']} primes, and a sieve finds {primes}."
        largest = sieve.rfind(1, row["first"], row["last"] + 1)
        if row["largest"] != (largest if largest >= 0 else None):
            return f"Segment {row['segment']} says its largest prime is {row['largest']}, and a sieve finds {largest}."
    return ""


def sieve_of(limit: int) -> bytearray:
    """Return a byte for each number up to `limit`, 1 where it is prime (Eratosthenes).

    Raises MillraceError above 100 million, which would take more than 100 MB.
    """
    if limit > 100_000_000:
        raise MillraceError(f"The limit {limit} is too large to count again: give at most 100000000.")
    sieve = bytearray([1]) * (limit + 1)
    sieve[:2] = b"\0\0"
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return sieve
