"""skaffold.yaml: what releases.yaml says, and what its own schema says."""

import copy
import json
import os
import shlex
from pathlib import Path

import jsonschema
import pytest
import yaml

from embedded.paths import REPOSITORY
from k8s.install.kind import image_names
from k8s.install.releases import REPOSITORY as ROOT
from k8s.install.releases import releases
from tests.charts.render import render_chart

SKAFFOLD = yaml.safe_load((REPOSITORY / "skaffold.yaml").read_text())
PROFILES = {profile["name"]: profile for profile in SKAFFOLD["profiles"]}


def with_profile(name):
    """The configuration with a profile's patches applied, as skaffold applies them."""
    made = copy.deepcopy(SKAFFOLD)
    for patch in PROFILES[name]["patches"]:
        *path, last = patch["path"].strip("/").split("/")
        place = made
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if isinstance(place, list) and last == "-":
            place.append(patch["value"])
        else:
            assert patch["op"] == "add" or last in place, patch
            place[last] = patch["value"]
    return made


@pytest.mark.parametrize("name", [None, *PROFILES])
def test_it_is_what_its_schema_says(name):
    version = SKAFFOLD["apiVersion"].partition("/")[2]
    folder = os.environ.get("MILLRACE_SCHEMAS")
    path = Path(folder or "/nowhere") / "json" / "skaffold" / f"{version}.json"
    if not path.exists():
        pytest.skip(f"needs skaffold's own schema as skaffold/{version}.json in the folder json of MILLRACE_SCHEMAS")
    made = with_profile(name) if name else SKAFFOLD
    errors = jsonschema.Draft7Validator(json.loads(path.read_text())).iter_errors(made)
    assert [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors] == []


@pytest.mark.parametrize(("profile", "environment"), [(None, "kind"), ("kind", "kind"), ("staging", "staging")])
def test_releases_are_those_of_the_list_in_its_order(profile, environment):
    deployed = (with_profile(profile) if profile else SKAFFOLD)["deploy"]["helm"]["releases"]
    assert [each["name"] for each in deployed] == [release.name for release in releases()]
    for each, release in zip(deployed, releases(), strict=True):
        assert each["namespace"] == release.namespace
        assert each["valuesFiles"] == release.value_files(environment)
        if release.version is None:
            assert each["chartPath"] == f"{release.repository}/{release.chart}"
        elif release.repository.startswith("oci://"):
            assert (each["remoteChart"], each["version"]) == (f"{release.repository}/{release.chart}", release.version)
        else:
            assert (each["remoteChart"], each["repo"]) == (release.chart, release.repository)
            assert each["version"] == release.version


def test_it_builds_our_images_from_their_files():
    built = {each["image"]: each["docker"]["dockerfile"] for each in SKAFFOLD["build"]["artifacts"]}
    assert set(built) == {name.partition(":")[0] for name in image_names()}
    for image, file in built.items():
        assert file == f"images/{image.partition('/')[2]}/Dockerfile"


def test_the_files_it_names_are_there():
    for name in [None, *PROFILES]:
        made = with_profile(name) if name else SKAFFOLD
        for each in made["deploy"]["helm"]["releases"]:
            for file in each["valuesFiles"]:
                assert (REPOSITORY / file).exists(), file


def test_its_hooks_are_the_steps_of_the_installation():
    """Namespaces, secrets and jobs before; Kafka's certificate after, as soon as Kafka is ready."""
    from k8s.install.cluster import Cluster
    from k8s.install.steps import install_steps

    by_hand = {command for step in install_steps(Cluster("C"), "kind") for command in step.commands}
    known = {" ".join(command) for command in by_hand}
    known |= {command.replace(" --environment kind", "") for command in known}
    for when in ("before", "after"):
        for hook in SKAFFOLD["deploy"]["helm"]["hooks"][when]:
            shell, option, line = hook["host"]["command"]
            assert (shell, option) == ("sh", "-c")
            assert " ".join(shlex.split(line.replace("$SKAFFOLD_KUBE_CONTEXT", "C"))) in known, line


def test_the_images_it_builds_reach_everything_that_starts_one():
    digest = f"sha256:{'a' * 64}"
    for reference in ("millrace/spark:0123abc", f"localhost:5000/millrace/spark:0123abc@{digest}"):
        values = {
            "images": {"spark": reference, "ingest": "millrace/ingest:4567def"},
            "historyServer": {"enabled": True},
        }
        objects = render_chart(values)
        [settings] = [
            each for each in objects if each["kind"] == "ConfigMap" and "MILLRACE_SPARK_IMAGE" in each["data"]
        ]
        assert settings["data"]["MILLRACE_SPARK_IMAGE"] == reference
        assert settings["data"]["MILLRACE_INGEST_IMAGE"] == "millrace/ingest:4567def"
    names = {each["name"]: set(each.get("setValueTemplates", {})) for each in SKAFFOLD["deploy"]["helm"]["releases"]}
    assert names["millrace"] == {"images.spark", "images.ingest"}
    assert names["airflow"] == {"defaultAirflowRepository", "defaultAirflowTag"}


def test_dags_are_copied_where_tasks_of_the_same_profile_run():
    made = with_profile("dags")
    rules = made["build"]["artifacts"][0]["sync"]["manual"]
    assert made["build"]["artifacts"][0]["image"] == "millrace/airflow"
    for rule in rules:
        assert list(REPOSITORY.glob(rule["src"]))
        assert rule["dest"] == "/opt/millrace"  # under it the path from the repository's root
    [airflow] = [each for each in made["deploy"]["helm"]["releases"] if each["name"] == "airflow"]
    values = yaml.safe_load((ROOT / airflow["valuesFiles"][-1]).read_text())
    assert values["executor"] == "LocalExecutor"
    for component in ("scheduler", "dagProcessor", "triggerer"):
        assert values[component]["extraVolumeMounts"] == [{"name": "dags", "mountPath": "/opt/millrace/dags"}]
    [ours] = [each for each in made["deploy"]["helm"]["releases"] if each["name"] == "millrace"]
    accounts = ours["setValues"]["airflow.serviceAccounts"].strip("{}").split(",")
    assert "airflow-scheduler" in accounts
