"""What a Spark driver does from its start to its second batch, done small: Java notes which classes that takes.

Run by spark-submit (see class_archive.py): ``class_archive_training.py DIRECTORY``. Writes the JVM's class path to
``DIRECTORY/classpath``; what else it writes there is of no further use.
"""

import contextlib
import sys
from pathlib import Path

from py4j.java_gateway import JVMView
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

NOBODY = "127.0.0.1:1"
"""A port on which no broker answers: the clients' classes are loaded all the same."""
UNANSWERED = {"default.api.timeout.ms": "200", "request.timeout.ms": "100", "max.block.ms": "200"}

OBJECT_STORE = {
    "endpoint": f"http://{NOBODY}",
    "endpoint.region": "us-east-1",
    "path.style.access": "true",
    "aws.credentials.provider": "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider",
    "access.key": "none",
    "secret.key": "none",
    "attempts.maximum": "1",
    "retry.limit": "0",
    "connection.establish.timeout": "1s",
}


def main(directory: Path) -> None:
    """Start a session, run two batches of a windowed count into a Delta table, ask Kafka, S3 and Kubernetes in vain."""
    spark = (
        SparkSession.builder.appName("class-archive")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config(
            "spark.sql.streaming.stateStore.providerClass",
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        )
        .config("spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled", "true")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.log.level", "OFF")
        .getOrCreate()
    )
    jvm = spark.sparkContext._jvm
    (directory / "classpath").write_text(jvm.java.lang.System.getProperty("java.class.path"))
    source = directory / "source"
    source.mkdir()

    def write(rows: DataFrame, batch: int) -> None:
        rows = rows.persist()
        rows.count()
        rows.write.format("delta").mode("append").option("txnAppId", "x").option("txnVersion", str(batch)).save(
            str(directory / "table")
        )
        rows.unpersist()

    events = spark.readStream.schema("value string").option("maxFilesPerTrigger", "1").text(str(source))
    event = F.from_json("value", "time timestamp, kind string")
    counts = (
        events.select(event.alias("event"))
        .select("event.*")
        .where("kind IS NOT NULL")
        .observe("checked", F.count(F.lit(1)).alias("rows"))
        .withWatermark("time", "1 minute")
        .groupBy(F.window("time", "5 minutes", "1 minute"), "kind")
        .count()
    )
    for number, moment in enumerate(("2013-01-01T00:00:00", "2013-01-02T00:00:00")):
        (source / f"{number}.json").write_text(f'{{"time": "{moment}", "kind": "departed"}}\n')
    query = (
        counts.writeStream.foreachBatch(write)
        .option("checkpointLocation", str(directory / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    kafka = {f"kafka.{name}": value for name, value in {"bootstrap.servers": NOBODY, **UNANSWERED}.items()}
    with contextlib.suppress(PySparkException, Py4JError):
        spark.read.format("kafka").options(**kafka).option("subscribe", "none").load().count()
    with contextlib.suppress(PySparkException, Py4JError):
        row = spark.range(1).select(F.to_json(F.struct("id")).alias("value"))
        row.write.format("kafka").options(**kafka).option("topic", "none").save()
    with contextlib.suppress(PySparkException, Py4JError):
        _ask_object_store(spark)
    with contextlib.suppress(Py4JError, TypeError):
        _ask_kubernetes(jvm)
    spark.stop()


def _ask_object_store(spark: SparkSession) -> None:
    """List a bucket where nobody answers, if there are the jars for it."""
    settings = spark.sparkContext._jsc.hadoopConfiguration()
    for name, value in OBJECT_STORE.items():
        settings.set(f"fs.s3a.{name}", value)
    spark.read.text("s3a://none/none").count()


def _ask_kubernetes(jvm: JVMView) -> None:
    """List pods where nobody answers, as the scheduler of a cluster's drivers does."""
    kubernetes = jvm.io.fabric8.kubernetes.client
    server = kubernetes.ConfigBuilder().withMasterUrl(f"http://{NOBODY}").withRequestRetryBackoffLimit(0)
    client = kubernetes.KubernetesClientBuilder().withConfig(server.build()).build()
    try:
        client.pods().list()
    finally:
        client.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
