"""Counts rows by what becomes of them: kept and dropped, matched and unmatched; in the progress and the metrics."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

OBSERVATION = "rows"
"""Name of the observed metrics that hold the counts."""


def count_rows(rows: DataFrame, **tests: Column) -> DataFrame:
    """Observe how many rows pass each test, as they pass by; every row goes on.

    Each batch's progress has the counts under `rows`, by the tests' names; `stream_rows_total` adds them up. A batch
    that is run again after a crash is counted again by the new driver.
    """
    return rows.observe(OBSERVATION, *(F.count_if(test).alias(name) for name, test in tests.items()))


def row_counts(observed: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return, of a batch's observed metrics, the counts by name; empty if the app counts nothing so."""
    return {name: int(count or 0) for name, count in observed.get(OBSERVATION, {}).items()}
