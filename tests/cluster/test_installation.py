"""The installer and helm on a real cluster: install, upgrade to the same, upgrade to other values, uninstall."""

import json
import os
import subprocess

import pytest

from k8s.install.releases import releases
from tests.cluster.installation import HELM, MEMORY, RECORDS, RETENTION, installed_objects, lasting_pods
from tests.cluster.platform import NAMESPACES
from tests.cluster.runs import DAG_ID


def helm(cluster, *arguments):
    command = ["helm", "--kube-context", cluster.context, *arguments]
    return subprocess.run(
        command, env={**os.environ, **cluster.environment}, capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_every_release_is_deployed(cluster, platform):
    found = json.loads(helm(cluster, "list", "--all-namespaces", "--output=json"))
    ours = {each["name"]: each["status"] for each in found if each["namespace"] in NAMESPACES}
    assert ours == {release.name: "deployed" for release in releases()}


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


CLUSTER_WIDE = (
    *("clusterroles", "clusterrolebindings", "priorityclasses"),
    *("validatingwebhookconfigurations", "mutatingwebhookconfigurations"),
)


def test_the_uninstaller_succeeds(uninstalled):
    assert uninstalled.returncode == 0, uninstalled.stdout + uninstalled.stderr


def test_uninstalling_leaves_no_namespace(cluster, uninstalled):
    assert not {each["metadata"]["name"] for each in cluster.get("namespaces")["items"]}.intersection(NAMESPACES)


def test_uninstalling_leaves_nothing_that_belongs_to_no_namespace(cluster, uninstalled):
    left = cluster.get(",".join(CLUSTER_WIDE))["items"]
    assert not [each["metadata"]["name"] for each in left if HELM in each["metadata"].get("annotations", {})]


def test_uninstalling_leaves_no_claim_on_a_volume(cluster, uninstalled):
    bound = [each for each in cluster.get("persistentvolumes")["items"] if each["status"]["phase"] == "Bound"]
    assert not [each["metadata"]["name"] for each in bound if each["spec"]["claimRef"]["namespace"] in NAMESPACES]


def test_uninstalling_leaves_no_definition_that_millrace_uses(cluster, uninstalled):
    wanted = {name for release in releases() for name in release.brings.definitions}
    assert not {each["metadata"]["name"] for each in cluster.get("customresourcedefinitions")["items"]} & wanted
