"""What each environment asks of a cluster: k8s/environments/README.md says it, the rendered objects add up to it."""

import re

import pytest
import yaml

from embedded.paths import REPOSITORY
from k8s.install.preflight import CPUS, MEMORY_GIB
from k8s.install.releases import ENVIRONMENTS, find_release, releases
from tests.deploy import upstream
from tests.deploy.test_values import pods

PAGE = REPOSITORY / "k8s" / "environments" / "README.md"
UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
GIB = 2**30
PYTHON_OVERHEAD = 0.4
"""Spark adds this share of a Python application's memory for what is outside of Java."""
TASKS = {"kind": 3, "staging": 4, "production": 8}
"""Tasks of Airflow at the same time that the tables count with; on kind, as many as run at most."""


def number(quantity):
    [(amount, unit)] = re.findall(r"^([0-9.]+)([a-zA-Z]*)$", str(quantity))
    return float(amount) * UNITS[unit]


class Sum:
    """CPUs, bytes of memory, bytes of disk."""

    def __init__(self):
        self.cpu = self.memory = self.disk = 0.0

    def add(self, resources, times=1):
        requests = (resources or {}).get("requests", {})
        self.cpu += number(requests.get("cpu", 0)) * times
        self.memory += number(requests.get("memory", 0)) * times

    def row(self):
        return [f"{round(self.cpu, 2):g}", f"{self.memory / GIB:.1f} GiB", f"{self.disk / GIB:.0f} GiB"]


def of_objects(objects):
    """What the pods and volumes of these objects ask for, those of operators' resources among them."""
    total = Sum()
    for each in objects:
        spec, replicas = each.get("spec", {}), each.get("spec", {}).get("replicas", 1)
        if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet"):  # a DaemonSet on one node
            for container in spec["template"]["spec"]["containers"]:
                total.add(container.get("resources"), replicas)
            for claim in spec.get("volumeClaimTemplates", []):
                total.disk += number(claim["spec"]["resources"]["requests"]["storage"]) * replicas
        elif each["kind"] == "KafkaNodePool":
            total.add(spec["resources"], replicas)
            volumes = spec["storage"].get("volumes", [spec["storage"]])
            total.disk += sum(number(volume["size"]) for volume in volumes) * replicas
        elif each["kind"] == "Kafka":
            for operator in spec["entityOperator"].values():
                total.add(operator.get("resources"))
            total.add(spec.get("kafkaExporter", {}).get("resources"))
        elif each["kind"] in ("Prometheus", "Alertmanager"):
            total.add(spec["resources"], replicas)
            total.add({"requests": {"cpu": "10m", "memory": "32Mi"}}, replicas)  # the operator's config reloader
            claim = (spec.get("storage") or {}).get("volumeClaimTemplate")
            if claim:
                total.disk += number(claim["spec"]["resources"]["requests"]["storage"]) * replicas
    return total


def of_tasks(environment):
    """Pods of tasks that run at the same time."""
    total = Sum()
    values = upstream.merged_values(find_release("airflow"), environment)
    total.add(values["workers"]["kubernetes"]["resources"], TASKS[environment])
    return total


def of_main_job():
    """The main job's driver, executors and generator."""
    total = Sum()
    spec = yaml.safe_load((REPOSITORY / "spark-apps/event-windows/application.yaml").read_text())["spec"]
    for role in ("driver", "executor"):
        asked, pods_ = spec[role], spec[role].get("instances", 1)
        total.cpu += number(asked.get("coreRequest", asked["cores"])) * pods_
        total.memory += number(asked["memory"].replace("g", "Gi").replace("m", "Mi")) * (1 + PYTHON_OVERHEAD) * pods_
    total.add({"requests": {"cpu": "200m", "memory": "256Mi"}})
    return total


def table(environment):
    """The rows of an environment's table on the page: what, and CPU, memory and disk as they are written."""
    section = PAGE.read_text().split(f"\n## {environment}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line[:1] == "|"
    ]
    return {row[0]: row[1:] for row in rows[2:]}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("name", [release.name for release in releases()])
def test_what_a_release_asks_for_is_what_the_page_says(name, environment):
    assert table(environment)[name] == of_objects(upstream.render(name, environment)).row()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_tasks_and_the_main_job_are_counted(environment):
    rows = table(environment)
    assert rows[f"{TASKS[environment]} tasks at a time"] == of_tasks(environment).row()
    assert rows["the main job"] == of_main_job().row()
    if environment == "kind":
        assert rows["Kubernetes itself"] == ["0.95", "0.3 GiB", "0 GiB"]  # of a cluster of kubeadm and kind


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_rows_add_up(environment):
    rows = table(environment)
    whole = rows.pop("in all")
    for column, digits in ((0, 2), (1, 1), (2, 0)):
        added = sum(float(row[column].split()[0]) for row in rows.values())
        # Each row is rounded.
        assert abs(float(whole[column].split()[0]) - added) < 0.06 * len(rows) * 10**-digits * 10 + 1e-9


def test_kind_fits_a_laptop():
    rows = table("kind")
    assert float(rows["in all"][0]) <= CPUS
    assert float(rows["in all"][1].split()[0]) <= MEMORY_GIB
    values = upstream.merged_values(find_release("airflow"), "kind")
    assert values["config"]["core"]["parallelism"] == TASKS["kind"]


def test_every_pod_counts():
    """A kind of object that makes pods and that the sum does not know would go unnoticed."""
    known = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "ConfigMap"}
    for release in releases():
        for each in upstream.render(release.name, "kind"):
            if each["kind"] not in known:
                assert not list(pods([each]))
                assert "template" not in (each.get("spec") or {}) or each["kind"] in ("Kafka", "KafkaNodePool"), each[
                    "kind"
                ]
