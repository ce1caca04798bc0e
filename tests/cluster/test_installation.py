"""The installer and helm on a real cluster: install, upgrade to the same, upgrade to other values, uninstall."""

import json
import subprocess

import pytest

from tests.cluster import installation
from tests.cluster.installation import MEMORY, RECORDS, RETENTION, installed_objects, lasting_pods
from tests.cluster.platform import NAMESPACES
from tests.cluster.runs import DAG_ID

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

RELEASES = {"monitoring", "strimzi", "spark-operator", "millrace", "airflow"}


def helm(cluster, *arguments):
    command = ["helm", "--kube-context", cluster.context, *arguments]
    return subprocess.run(command, env=cluster.environment, capture_output=True, text=True, check=True, timeout=120).stdout


def test_every_release_is_deployed(cluster, platform):
    found = json.loads(helm(cluster, "list", "--all-namespaces", "--output=json"))
    ours = {each["name"]: each["status"] for each in found if each["namespace"] in NAMESPACES}
    assert ours == dict.fromkeys(RELEASES, "deployed")


@pytest.mark.parametrize("namespace", [name for name in NAMESPACES if name != "streams"])
def test_every_pod_that_lasts_is_ready(namespace, platform):
    pods = [pod for pod in platform.pods(namespace) if pod["metadata"].get("ownerReferences")]
    phases = {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods}
    assert phases
    assert set(phases.values()) <= {"Running", "Succeeded"}, phases


def test_an_upgrade_to_the_same_changes_nothing(platform, healthy_run):
    """Not even for the run that goes on meanwhile."""
    if platform.theirs:
        pytest.skip("Millrace was installed here by somebody else: the tests do not change it.")
    objects, pods = installed_objects(platform.cluster), lasting_pods(platform.cluster)
    platform.install()
    assert installed_objects(platform.cluster) == objects
    assert lasting_pods(platform.cluster) == pods


def test_an_upgrade_brings_the_new_values(upgraded):
    assert upgraded.before.topic.retention != RETENTION
    assert upgraded.after.topic.retention == RETENTION


@pytest.mark.parametrize("part", MEMORY)
def test_an_upgrade_restarts_what_it_changes(part, upgraded):
    assert upgraded.after.pods[part] != upgraded.before.pods[part]


def test_an_upgrade_loses_no_record(upgraded):
    assert len(upgraded.before.topic.values) >= RECORDS
    assert upgraded.after.topic.ends == upgraded.before.topic.ends
    assert sorted(upgraded.after.topic.values) == sorted(upgraded.before.topic.values)


def test_an_upgrade_loses_no_object(upgraded):
    assert upgraded.before.objects
    assert upgraded.after.objects >= upgraded.before.objects


def test_an_upgrade_loses_no_row_of_the_database(platform, upgraded, finished_run):
    run = finished_run.run.run_id
    assert platform.airflow.ask(lambda airflow: airflow.state(DAG_ID, run)) == finished_run.run.state


def test_uninstalling_leaves_nothing(cluster, uninstalled):
    assert uninstalled.returncode == 0, uninstalled.stdout + uninstalled.stderr
    namespaces = {each["metadata"]["name"] for each in cluster.get("namespaces")["items"]}
    assert not namespaces & set(NAMESPACES)
    assert not [key for key in installation.cluster_wide(cluster) if key]
    claims = [volume["spec"].get("claimRef", {}) for volume in cluster.get("persistentvolumes")["items"]
              if volume["status"]["phase"] == "Bound"]
    assert not [claim for claim in claims if claim.get("namespace") in NAMESPACES]
