"""An app without a stream: computes a table once, puts it in the place of the one before, and ends.

The table is replaced by one Delta commit: whoever reads it meanwhile sees the old version or the new one, and a driver
that is killed leaves the old one. Run again, it makes the same table as one more version.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from streamkit.errors import first_line
from streamkit.logs import LOGGER, set_up_logs
from streamkit.session import create_session
from streamkit.settings import BatchSettings, SettingsError, parse_batch_arguments

Compute = Callable[[SparkSession, BatchSettings], DataFrame]


class BatchError(RuntimeError):
    """What the app was given can't be made into its table; the message is one sentence that says what to do."""


def main(compute: Compute) -> None:
    """Run a batch app: read settings from the command line, write the rows that `compute` returns to its table.

    Ends the process: 0 when the table is written, 1 if that failed, 2 for bad settings; one log line says why.
    """
    set_up_logs()
    try:
        settings = parse_batch_arguments()
    except SettingsError as error:
        LOGGER.error(str(error))
        sys.exit(2)
    spark = create_session(settings)
    try:
        status = run(spark, settings, compute)
    finally:
        spark.stop()
    sys.exit(status)


def run(spark: SparkSession, settings: BatchSettings, compute: Compute) -> int:
    """Compute and write the table. Returns the exit status."""
    began = time.monotonic()
    try:
        written = write_table(compute(spark, settings), settings.table.path)
    except SettingsError as error:
        LOGGER.error(str(error))
        return 2
    except BatchError as error:
        LOGGER.error(str(error))
        return 1
    except (PySparkException, Py4JError) as error:
        LOGGER.error("cannot make the table %s: %s", settings.table.path, first_line(error))
        return 1
    seconds = round(time.monotonic() - began, 3)
    fields = {"table": settings.table.path, **written, "seconds": seconds, "parameters": settings.parameters}
    LOGGER.info("table written", extra={"fields": fields})
    return 0


def write_table(rows: DataFrame, path: str) -> dict[str, Any]:
    """Put rows in the place of what a Delta table holds; return its new `version` and its number of `rows`."""
    from delta.tables import DeltaTable  # noqa: PLC0415  (tests of what an app computes do not need the package)

    rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(path)
    (newest,) = DeltaTable.forPath(rows.sparkSession, path).history(1).select("version", "operationMetrics").collect()
    return {"version": newest["version"], "rows": int(newest["operationMetrics"]["numOutputRows"])}
