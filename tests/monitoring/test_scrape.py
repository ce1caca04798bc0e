"""A real Prometheus scrapes as the PodMonitors say and evaluates the rules; metrics get the labels that they need."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from prometheus_client import generate_latest

from embedded.ports import LOOPBACK
from streamkit.telemetry import Metrics
from tests.charts.render import by_name, render_chart
from tests.monitoring.conftest import REPORT, run_prometheus
from tests.monitoring.rules import RULE_NAMES, rule_groups, write

KAFKA = """
kafka_server_replicamanager_underreplicatedpartitions 0
kafka_network_requestmetrics_totaltimems{request="Produce",quantile="0.99"} 3
kafka_network_requestmetrics_totaltimems{request="Heartbeat",quantile="0.99"} 3
"""
EXECUTORS = """
metrics_executor_totalCores{application_id="spark-1",application_name="event-windows",executor_id="1"} 2
"""
POD = {"namespace": "streams", "pod_name": "event-windows-driver", "pod_label_app_kubernetes_io_name": "event-windows"}
DRIVER = POD | {"pod_label_sparkoperator_k8s_io_app_name": "event-windows-a1b2"}
BROKER = {"namespace": "millrace", "pod_name": "millrace-broker-0", "pod_label_strimzi_io_pool_name": "broker"}


def snake(node):
    """Relabelings as Prometheus writes them, which its operator makes of those of the monitors."""
    if isinstance(node, dict):
        return {re.sub(r"([A-Z])", r"_\1", key).lower(): snake(value) for key, value in node.items()}
    return [snake(each) for each in node] if isinstance(node, list) else node


def scrape_configuration(job, address, pod):
    """How Prometheus scrapes one pod of a job."""
    monitor = by_name(render_chart(), "PodMonitor")[f"millrace-{job}"]
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    return {
        "job_name": job,
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "metrics_path": endpoint["path"],
        "honor_labels": endpoint.get("honorLabels", False),
        "static_configs": [
            {"targets": [address], "labels": {f"__meta_kubernetes_{key}": value for key, value in pod.items()}}
        ],
        "relabel_configs": snake(endpoint["relabelings"]),
        "metric_relabel_configs": snake(endpoint.get("metricRelabelings", [])),
    }


@pytest.fixture(scope="module")
def pods():
    """Serves what pods serve, each at a path of its own port; yields the addresses by job."""
    stream = Metrics()
    stream.update("event-windows", REPORT)
    texts = {"kafka": KAFKA, "spark-executors": EXECUTORS, "spark-driver": generate_latest(stream.registry).decode()}
    servers = {job: ThreadingHTTPServer((LOOPBACK, 0), handler(text)) for job, text in texts.items()}
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {job: f"{LOOPBACK}:{server.server_port}" for job, server in servers.items()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


def handler(text):
    """What answers every request with one text."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.strip().encode() + b"\n")

        def log_message(self, format, *args):
            """Keep requests out of the output."""

    return Handler


@pytest.fixture(scope="module")
def scraping(pods, tmp_path_factory):
    """A Prometheus that has scraped all of them, with all rules."""
    place = tmp_path_factory.mktemp("scraping")
    files = [str(write(groups, place / f"{name}.yaml")) for name, groups in rule_groups().items()]
    labels = {"kafka": BROKER, "spark-executors": DRIVER, "spark-driver": DRIVER}
    configuration = {
        "global": {"evaluation_interval": "1s"},
        "rule_files": files,
        "scrape_configs": [scrape_configuration(job, address, labels[job]) for job, address in pods.items()],
    }
    with run_prometheus(
        place,
        configuration,
        lambda server: len(series(server, "up == 1")) == len(pods),
        lambda server: "unknown" not in {each["health"] for each in rules(server)},
    ) as server:
        yield server


def rules(server):
    """What became of each rule."""
    groups = httpx.get(f"{server.url}/api/v1/rules").json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


def series(server, query):
    """The labels of what a query finds."""
    return [each["metric"] for each in server.ask("query", query=query)["result"]]


def test_every_rule_is_evaluated(scraping):
    assert {each["name"] for each in rules(scraping)} == set(RULE_NAMES)
    assert {each["health"] for each in rules(scraping)} == {"ok"}


def test_a_stream_s_metrics_say_which_stream_and_which_pod(scraping):
    [found] = series(scraping, "stream_processing_lag")
    assert found == {
        "__name__": "stream_processing_lag",
        "job": "spark-driver",
        "app": "event-windows",
        "application": "event-windows",
        "instance": "event-windows-driver",
        "query": "windows",
        "topic": "events",
    }
    [up] = series(scraping, 'up{job="spark-driver"}')
    assert up["application"] == "event-windows-a1b2"


def test_executors_lose_what_is_new_with_each_start(scraping):
    [found] = series(scraping, "metrics_executor_totalCores")
    assert found == {
        "__name__": "metrics_executor_totalCores",
        "job": "spark-executors",
        "app": "event-windows",
        "application": "event-windows-a1b2",
        "instance": "event-windows-driver",
        "executor_id": "1",
    }


def test_of_times_of_requests_only_those_that_matter_stay(scraping):
    assert [each["request"] for each in series(scraping, "kafka_network_requestmetrics_totaltimems")] == ["Produce"]
    [found] = series(scraping, "kafka_server_replicamanager_underreplicatedpartitions")
    assert (found["pool"], found["instance"]) == ("broker", "millrace-broker-0")
