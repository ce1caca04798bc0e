"""What a driver of Spark serves of its executors is what rules and dashboards name."""

import os

import pytest

from embedded.java import find_java, home_for_spark
from embedded.ports import LOOPBACK
from tests.charts.render import by_name, render_chart
from tests.dags.conftest import run_python
from tests.monitoring.exposition import listed, served

pytestmark = pytest.mark.embedded

# In a process of its own: a session that is there already would have no UI, and is not ours to stop.
CODE = f"""
import os, urllib.request
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[1]").appName("metrics").config("spark.ui.port", "0")
builder = builder.config("spark.driver.bindAddress", "{LOOPBACK}").config("spark.driver.host", "{LOOPBACK}")
session = builder.getOrCreate()
session.range(10).count()
with urllib.request.urlopen(session.sparkContext.uiWebUrl + os.environ["METRICS_PATH"]) as answer:
    print(answer.read().decode())
session.stop()
"""


def test_executors_are_served_by_the_driver_s_ui(tmp_path):
    monitor = by_name(render_chart(), "PodMonitor")["millrace-spark-executors"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    [relabeling] = endpoint["metricRelabelings"]
    dropped = set(relabeling["regex"].split("|"))
    environment = {"JAVA_HOME": str(home_for_spark(find_java(), tmp_path)), "METRICS_PATH": endpoint["path"]}
    found = served(run_python(CODE, {**os.environ, **environment}))
    for name, labels in listed("spark-executors").items():
        assert found[name] - dropped == labels, name
    assert relabeling["action"] == "labeldrop"
    assert dropped <= found["metrics_executor_totalCores"]
