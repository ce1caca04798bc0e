"""A Delta table that a stream looks things up in, at one version for as long as the app runs.

A batch that a crash has cut short is run again, and must give the same rows as the first time: what one sink holds
already and what the other gets once more would else differ. So the version is pinned: chosen when the app starts,
noted beside the query's checkpoint before its first batch, and kept over restarts until no batch is half done.
"""

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from streamkit.checkpoint import HadoopFiles, inspect
from streamkit.errors import first_line
from streamkit.logs import LOGGER
from streamkit.settings import AppSettings, SettingsError


def read_reference(spark: SparkSession, settings: AppSettings, query: str) -> tuple[DataFrame, int]:
    """Return the reference table and its version.

    The version is that of the settings, or the newest; but if the checkpoint of `query` holds a batch that is not
    finished, that which the batch began with. Raises SettingsError if there is no such table or version.
    """
    reference = settings.reference
    if reference is None:
        raise SettingsError("reference: is missing: name the Delta table with reference.path")
    try:
        wanted = _newest(spark, reference.path) if reference.version is None else reference.version
        version = pin(spark, settings.checkpoint(query), wanted)
        rows = spark.read.format("delta").option("versionAsOf", version).load(reference.path)
        rows.schema  # noqa: B018  (asks for the table now, not when the first batch does)
    except (PySparkException, Py4JError) as error:
        asked = "" if reference.version is None else f" of version {reference.version}"
        raise SettingsError(
            f"reference.path: {reference.path}: no Delta table{asked} can be read there ({first_line(error)}): run the "
            "batch app that makes it first"
        ) from error
    LOGGER.info("reference table", extra={"fields": {"path": reference.path, "version": version}})
    return rows, version


def _newest(spark: SparkSession, path: str) -> int:
    from delta.tables import DeltaTable  # noqa: PLC0415  (only apps with a Delta table need the package)

    (newest,) = DeltaTable.forPath(spark, path).history(1).select("version").collect()
    return int(newest["version"])


def pin(spark: SparkSession, checkpoint: str, wanted: int) -> int:
    """Note the version that the batches from now on use, and return it; see `read_reference`.

    The note is the name of an empty file, which is there or not, on any storage.
    """
    files = HadoopFiles(spark)
    folder = f"{checkpoint}/reference"
    noted = {int(name) for name in files.list(folder) if name.isdecimal()}
    if noted and not inspect(checkpoint, files.list).clean:
        # There is only one: the others were gone before that batch was planned.
        (version,) = noted
        if version != wanted:
            fields = {"version": version, "wanted": wanted}
            LOGGER.warning(
                "a batch is unfinished: its reference version is kept for this run", extra={"fields": fields}
            )
        return version
    files.create(f"{folder}/{wanted}")
    for old in noted - {wanted}:
        files.delete(f"{folder}/{old}")
    return wanted
