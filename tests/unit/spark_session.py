"""One local Spark for all unit tests that compute with it. No jars, no Kafka."""

import logging
import os
import sys
from collections.abc import Iterator

import pytest
from pyspark.sql import SparkSession

from embedded.class_archive import QUICK_START
from embedded.java import find_java, home_for_spark


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    os.environ["JAVA_HOME"] = str(home_for_spark(find_java(), tmp_path_factory.mktemp("java")))
    os.environ["SPARK_SUBMIT_OPTS"] = QUICK_START
    # Named, as a signal handler or another test may have left MILLRACE_* or SPARK_* of a target behind.
    os.environ.pop("SPARK_REMOTE", None)
    os.environ["PYSPARK_PYTHON"] = sys.executable
    session = (
        SparkSession.builder.master("local[2]")
        .appName("unit")
        .config("spark.ui.enabled", "false")
        .config("spark.log.level", "ERROR")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.sql.adaptive.enabled", "false")
        .config("spark.sql.streaming.noDataMicroBatches.enabled", "true")
        .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
        .getOrCreate()
    )
    yield session
    session.stop()
    # Py4J says at the interpreter's end that its connections close, when pytest has closed what it would say it to.
    logging.getLogger("py4j").setLevel(logging.WARNING)
