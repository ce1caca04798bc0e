"""The Spark session of an app, from its settings. Jars, sizes and master come from whoever submits the app."""

from urllib.parse import urlsplit

from pyspark.sql import SparkSession

from streamkit.settings import AppSettings, BatchSettings, ObjectStoreSettings

_PROVIDERS = {
    "rocksdb": "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
    "hdfs": "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider",
}

_CHECKPOINT_FILES = {
    # A rename is one step on a disk, and half the time of Hadoop's other interface.
    "file": "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager",
    # S3 has no rename: a file appears as a whole when its upload is complete, and an interrupted one never does.
    "s3a": "org.apache.spark.internal.io.cloud.AbortableStreamBasedCheckpointFileManager",
}
"""How checkpoint files come to be whole or not at all, by the scheme of the checkpoint's URL."""

DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def spark_conf(settings: AppSettings | BatchSettings) -> dict[str, str]:
    """Return the Spark configuration that the settings mean; `spark_conf` of the settings has the last word."""
    conf = {
        "spark.app.name": settings.application,
        # Event times are UTC; so are windows, and what is written.
        "spark.sql.session.timeZone": "UTC",
    }
    if isinstance(settings, AppSettings):
        conf |= _streaming_conf(settings)
        place, delta = settings.checkpoint_base, bool(settings.sinks.delta or settings.reference)
    else:
        place, delta = settings.table.path, True
    if urlsplit(place).scheme == "s3a":
        conf |= object_store_conf(settings.object_store)
    if settings.event_log:
        conf |= {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": settings.event_log,
            # A stream's log would grow for ever: it is kept in pieces, of which the oldest are compacted.
            "spark.eventLog.rolling.enabled": "true",
            "spark.eventLog.rolling.maxFileSize": "32m",
        }
    if delta:
        conf |= DELTA
    return {**conf, **settings.spark_conf}


def object_store_conf(store: ObjectStoreSettings) -> dict[str, str]:
    """Return the Spark configuration that reaches an S3 service."""
    conf = {"spark.hadoop.fs.s3a.endpoint.region": store.region}
    if store.endpoint:
        conf["spark.hadoop.fs.s3a.endpoint"] = store.endpoint
        # A service of one's own has one name; that of the bucket is not a host in front of it.
        conf["spark.hadoop.fs.s3a.path.style.access"] = "true"
    return conf


def _streaming_conf(settings: AppSettings) -> dict[str, str]:
    conf = {
        "spark.sql.streaming.minBatchesToRetain": str(settings.min_batches_to_retain),
        "spark.sql.streaming.stateStore.providerClass": _PROVIDERS[settings.state_store.provider],
        # The smallest holds: else a slower partition's events would be late. Stated, though it is the default.
        "spark.sql.streaming.multipleWatermarkPolicy": "min",
    }
    if settings.state_store.provider == "rocksdb":
        conf["spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled"] = str(
            settings.state_store.changelog
        ).lower()
    scheme = urlsplit(settings.checkpoint_base).scheme or "file"
    if scheme in _CHECKPOINT_FILES:
        conf["spark.sql.streaming.checkpointFileManagerClass"] = _CHECKPOINT_FILES[scheme]
    return conf


def create_session(settings: AppSettings | BatchSettings) -> SparkSession:
    """Start Spark, or take the session that is there."""
    builder = SparkSession.builder
    for key, value in spark_conf(settings).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def task_slots(spark: SparkSession) -> int | None:
    """Return how many tasks can run at the same time, or None if there is no limit.

    Where executors are allocated dynamically: when there are as many as there may be.
    """
    context = spark.sparkContext
    if context.master.startswith("local"):
        return context.defaultParallelism
    conf = context.getConf()
    each = int(conf.get("spark.executor.cores", "1")) // int(conf.get("spark.task.cpus", "1"))
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        most = conf.get("spark.dynamicAllocation.maxExecutors")
        return int(most) * each if most else None
    return int(conf.get("spark.executor.instances", "2")) * each
