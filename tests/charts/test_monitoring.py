"""Monitoring's part of the chart: monitors, rules and dashboards, against the Prometheus operator's own definitions."""

import copy

import pytest
import yaml

from tests.charts.render import EVERYTHING, RenderError, by_name, render_chart
from tests.charts.schemas import problems
from tests.definitions import operators_definitions

ALL = yaml.safe_load(EVERYTHING.read_text())
LEAST = {
    "kafka": {"metrics": {"enabled": False}, "exporter": {"enabled": False}},
    "monitoring": {
        "targets": dict.fromkeys(
            (
                "airflow",
                "entityOperator",
                "ingest",
                "postgresql",
                "sparkDrivers",
                "sparkExecutors",
                "sparkOperator",
                "strimzi",
            ),
            False,
        )
    },
}


@pytest.fixture(scope="module")
def operator_definitions():
    """The definitions of the Prometheus operator, by kind."""
    return operators_definitions()


def ours(values=None):
    """What the chart renders for the Prometheus operator."""
    return [each for each in render_chart(values) if each["apiVersion"].startswith("monitoring.coreos.com/")]


@pytest.mark.parametrize("values", [{}, ALL, LEAST], ids=["default", "everything", "least"])
def test_every_object_is_what_the_operator_takes(values, operator_definitions):
    for each in ours(values):
        assert problems(each, operator_definitions[each["kind"]]) == []


def test_a_misspelt_field_would_be_found(operator_definitions):
    monitor = copy.deepcopy(next(each for each in ours() if each["kind"] == "PodMonitor"))
    monitor["spec"]["podMetricsEndpoints"][0]["intervall"] = "30s"
    assert any("intervall" in problem for problem in problems(monitor, operator_definitions["PodMonitor"]))


def monitors(values=None):
    """The monitors' specs by job."""
    found = by_name(render_chart(values), "PodMonitor")
    return {name.removeprefix("millrace-"): monitor["spec"] for name, monitor in found.items()}


def test_every_part_that_has_metrics_is_scraped_where_it_runs():
    places = {job: spec["namespaceSelector"]["matchNames"] for job, spec in monitors().items()}
    assert places == {
        "airflow": ["airflow"],
        "entity-operator": ["millrace"],
        "ingest": ["streams"],
        "kafka": ["millrace"],
        "kafka-exporter": ["millrace"],
        "postgresql": ["millrace"],
        "spark-driver": ["streams"],
        "spark-executors": ["streams"],
        "spark-operator": ["spark-operator"],
        "strimzi": ["strimzi"],
    }


def test_pods_of_the_chart_are_those_that_monitors_select():
    """By their labels, and with a port of that name."""
    found = 0
    for job, spec in monitors(ALL).items():
        for name, pod in pod_templates(ALL).items():
            if spec["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items():
                ports = {port.get("name") for each in pod["spec"]["containers"] for port in each.get("ports", [])}
                assert {each["port"] for each in spec["podMetricsEndpoints"]} <= ports, f"{job}, {name}"
                found += 1
    assert found >= 2  # PostgreSQL and a feed; the others' pods are made by operators and other charts


def pod_templates(values):
    """The pods that the chart's own workloads make."""
    objects = [each for each in render_chart(values) if each["kind"] in ("Deployment", "StatefulSet")]
    return {each["metadata"]["name"]: each["spec"]["template"] for each in objects}


def test_brokers_and_their_exporter_are_told_apart():
    found = monitors({"kafka": {"name": "other"}})
    assert found["kafka"]["selector"]["matchLabels"]["strimzi.io/name"] == "other-kafka"
    assert found["kafka-exporter"]["selector"]["matchLabels"]["strimzi.io/name"] == "other-kafka-exporter"


def test_each_job_has_its_own_name_and_its_interval():
    for job, spec in monitors(ALL).items():
        for endpoint in spec["podMetricsEndpoints"]:
            assert {"targetLabel": "job", "replacement": job} in endpoint["relabelings"]
            assert endpoint["interval"] == "1m"


def test_what_has_a_value_of_its_own_for_each_start_or_run_makes_no_series():
    [executors] = monitors()["spark-executors"]["podMetricsEndpoints"]
    assert {"regex": "application_id|application_name", "action": "labeldrop"} in executors["metricRelabelings"]
    for spec in monitors().values():
        for endpoint in spec["podMetricsEndpoints"]:
            labels = {each.get("targetLabel") for each in endpoint["relabelings"]}
            assert labels <= {"job", "instance", "app", "application", "pool"}


def test_only_times_of_requests_that_somebody_waits_for_are_kept():
    [kafka] = monitors()["kafka"]["podMetricsEndpoints"]
    assert kafka["metricRelabelings"] == [
        {"sourceLabels": ["request"], "regex": "(Produce|FetchConsumer|FetchFollower|)", "action": "keep"}
    ]


def test_labels_of_the_values_are_on_monitors_and_rules():
    for each in ours(ALL):
        assert each["metadata"]["labels"]["team"] == "streaming"
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "millrace"


def test_what_is_off_is_not_rendered():
    assert ours(LEAST) == []
    assert ours({"monitoring": {"enabled": False}}) == []
    off = render_chart({"monitoring": {"rules": {"enabled": False}, "dashboards": {"enabled": False}}})
    assert not by_name(off, "PrometheusRule")
    assert not [name for name in by_name(off, "ConfigMap") if "dashboard" in name]
    assert by_name(off, "PodMonitor")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"monitoring": {"target": {}}}, ["target", "not allowed"]),
        ({"monitoring": {"thresholds": {"streamLatency": 3}}}, ["streamLatency", "not allowed"]),
        ({"monitoring": {"thresholds": {"kafkaDiskFreeRatio": 15}}}, ["kafkaDiskFreeRatio", "maximum"]),
        ({"monitoring": {"interval": "30"}}, ["interval", "pattern"]),
        ({"monitoring": {"rules": {"runbooks": "docs"}}}, ["runbooks", "pattern"]),
    ],
)
def test_bad_values_are_refused(values, words):
    with pytest.raises(RenderError) as refused:
        render_chart(values)
    for word in words:
        assert word in str(refused.value)
