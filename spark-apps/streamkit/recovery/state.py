"""A query's state, read by Spark's own state data source: which stores there are, and what is in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from streamkit.errors import first_line
from streamkit.recovery import RecoveryError
from streamkit.recovery.files import Files
from streamkit.recovery.layout import Checkpoint, read_offsets

_PROVIDER = "spark.sql.streaming.stateStore.providerClass"


@dataclass(frozen=True)
class StateRows:
    """What one store holds after a batch."""

    operator: int
    name: str
    """The operator's, as Spark calls it."""
    store: str
    batch: int
    count: int
    rows: tuple[dict[str, Any], ...]
    """The first ones, each with key, value and partition_id."""


def read_state(
    spark: SparkSession,
    files: Files,
    checkpoint: Checkpoint,
    *,
    operator: int | None = None,
    store: str | None = None,
    batch: int | None = None,
    limit: int = 20,
) -> list[StateRows]:
    """Return what the state of a checkpoint holds after a batch (by default the newest committed one).

    Raises RecoveryError if the query keeps no such state, or Spark can't read it.
    """
    if not checkpoint.stateful or not checkpoint.finished:
        raise RecoveryError(f"{checkpoint.path}: this query keeps no state")
    batch = checkpoint.finished[-1] if batch is None else batch
    if batch not in checkpoint.finished:
        raise RecoveryError(
            f"{checkpoint.path}: batch {batch} is not there: committed batches are {checkpoint.finished[0]} to "
            f"{checkpoint.finished[-1]}"
        )
    # Which kind of store wrote it is noted with each batch.
    provider = read_offsets(files, checkpoint, batch).conf.get(_PROVIDER)
    try:
        with _configured(spark, provider):
            known = spark.read.format("state-metadata").load(checkpoint.path).collect()
            chosen = [
                (row["operatorId"], row["operatorName"], row["stateStoreName"])
                for row in known
                if operator in (None, row["operatorId"]) and store in (None, row["stateStoreName"])
            ]
            if not chosen:
                there = ", ".join(f"{row['operatorId']}/{row['stateStoreName']}" for row in known)
                raise RecoveryError(f"{checkpoint.path}: no such state: operators and stores are {there}")
            return [_rows(spark, checkpoint, *each, batch, limit) for each in chosen]
    except PySparkException as error:
        raise RecoveryError(
            f"{checkpoint.path}: the state of batch {batch} can't be read: {first_line(error)}"
        ) from error


def _rows(
    spark: SparkSession, checkpoint: Checkpoint, operator: int, name: str, store: str, batch: int, limit: int
) -> StateRows:
    options = {"operatorId": str(operator), "storeName": store, "batchId": str(batch)}
    frame = spark.read.format("statestore").options(**options).load(checkpoint.path)
    rows = tuple(row.asDict(recursive=True) for row in frame.limit(limit).collect()) if limit else ()
    return StateRows(operator, name, store, batch, frame.count(), rows)


@contextmanager
def _configured(spark: SparkSession, provider: str | None) -> Iterator[None]:
    before = spark.conf.get(_PROVIDER, None)
    if provider:
        spark.conf.set(_PROVIDER, provider)
    try:
        yield
    finally:
        if provider and before is None:
            spark.conf.unset(_PROVIDER)
        elif provider:
            spark.conf.set(_PROVIDER, before)
