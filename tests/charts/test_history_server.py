"""Spark's history server, as the chart starts it: the real one, on event logs in the real object store."""

import json
import os
import subprocess
from pathlib import Path

import httpx
import pyspark
import pytest

from embedded import jars
from embedded.java import find_java, home_for_spark
from embedded.ports import free_port
from embedded.settings import load_settings
from tests.charts.gateway import Gateway, environment, wait_until
from tests.charts.render import by_name, render_chart, workloads


@pytest.fixture
def spark(tmp_path):
    """Environment of Spark's programs as the Spark image has it: Java, and the jars of S3."""
    if "s3" not in {jar.set_name for jar in jars.read_lock()}:
        pytest.skip("requirements/jars.lock has no jars of S3")
    java = find_java()
    directory = jars.fetch(java, load_settings().jars, names=["s3"])["s3"]
    return {
        "PATH": os.environ["PATH"],
        "JAVA_HOME": str(home_for_spark(java, tmp_path / "java")),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DIST_CLASSPATH": f"{directory}/*",
    }


def here(command):
    """A command of the image, with this environment's Spark."""
    return [part.replace("/opt/spark", str(Path(pyspark.__file__).parent)) for part in command]


def test_it_makes_its_folder_and_shows_what_is_logged_there(spark, tmp_path):
    objects = render_chart({"historyServer": {"enabled": True}})
    pod = workloads(objects)["Deployment/history-server"]
    [init], [main] = pod["initContainers"], pod["containers"]
    gateway = Gateway(tmp_path / "volume")
    gateway.initialise()
    settings = by_name(objects, "ConfigMap")["history-server"]["data"]["core-site.xml"]
    (tmp_path / "core-site.xml").write_text(settings.replace("http://object-store.millrace.svc:7070", gateway.url))

    def variables(container):
        return {**spark, **environment(container), "HADOOP_CONF_DIR": str(tmp_path)}

    port = free_port()
    with gateway.running():
        for _ in range(2):  # each start of the pod
            subprocess.run(here(init["command"]) + init["args"], env=variables(init), check=True, timeout=120)
        listed = gateway.client().list_objects_v2(Bucket="millrace")["Contents"]
        assert [each["Key"] for each in listed] == ["spark-events/"]
        events = [
            {"Event": "SparkListenerLogStart", "Spark Version": "4.2.0"},
            {
                "Event": "SparkListenerApplicationStart",
                **{"App Name": "mine", "App ID": "app-1", "User": "me", "Timestamp": 1767225600000},
            },
            {"Event": "SparkListenerApplicationEnd", "Timestamp": 1767225660000},
        ]
        # As compact as Spark writes it: the server looks for events by the text that a line begins with.
        log = "".join(f"{json.dumps(event, separators=(',', ':'))}\n" for event in events)
        gateway.client().put_object(Bucket="millrace", Key="spark-events/app-1", Body=log.encode())

        environ = variables(main)
        environ["SPARK_HISTORY_OPTS"] += f" -Dspark.history.ui.port={port}"
        process = subprocess.Popen(here(main["command"]), env=environ, stderr=subprocess.DEVNULL)
        try:
            applications = f"http://127.0.0.1:{port}/api/v1/applications"
            wait_until(lambda: httpx.get(applications).json() != [], process, httpx.TransportError)
            [application] = httpx.get(applications).json()
            assert (application["id"], application["name"]) == ("app-1", "mine")
            assert application["attempts"][0]["completed"]
            probe = main["readinessProbe"]["httpGet"]["path"]
            assert httpx.get(f"http://127.0.0.1:{port}{probe}", follow_redirects=True).status_code == 200
        finally:
            process.terminate()
            process.wait(60)
