"""The manifests for Argo CD, Flux and External Secrets: their schemas, and that they say what releases.yaml says."""

import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from embedded.paths import REPOSITORY
from k8s.install.credentials import places
from k8s.install.releases import releases
from tests.documents import documents

GITOPS = REPOSITORY / "k8s" / "gitops"
ENVIRONMENT = "production"
KUBERNETES = {"v1", "rbac.authorization.k8s.io/v1", "kustomize.config.k8s.io/v1beta1"}
"""Not of the catalog; these few fields are checked by kustomize and by the tests below."""


FILES = sorted(path for path in GITOPS.rglob("*.yaml") if path.name not in ("argocd-cm.yaml", "names.yaml"))
EVERY = [(path, each) for path in FILES for each in documents(path.read_text())]
APPLICATIONS = {
    path.stem: documents(path.read_text())[0] for path in sorted((GITOPS / "argocd" / "applications").glob("*.yaml"))
}


def named(document):
    return document["metadata"]["name"]


def of_kind(kind, folder=""):
    return [each for path, each in EVERY if each["kind"] == kind and folder in str(path.relative_to(GITOPS))]


def label(each):
    return each.stem if isinstance(each, Path) else each["kind"]


@pytest.mark.parametrize(("path", "document"), EVERY, ids=label)
def test_every_manifest_is_what_its_schema_says(path, document):
    if document["apiVersion"] in KUBERNETES:
        return
    group, version = document["apiVersion"].split("/")
    folder = os.environ.get("MILLRACE_SCHEMAS")
    schema = Path(folder or "/nowhere") / "json" / group / f"{document['kind'].lower()}_{version}.json"
    if not schema.exists():
        pytest.skip(f"needs {group}/{schema.name} in the folder json of MILLRACE_SCHEMAS")
    errors = jsonschema.Draft7Validator(json.loads(schema.read_text())).iter_errors(document)
    assert [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors] == []


def test_one_repository_under_one_name_to_be_replaced():
    texts = [path.read_text() for path in FILES]
    urls = {url for text in texts for url in re.findall(r"https://git\.example\.com/\S+", text)}
    assert urls == {"https://git.example.com/millrace.git"}


# Argo CD


def test_argo_cd_has_each_release_with_its_chart_version_values_and_namespace():
    for release in releases():
        spec = APPLICATIONS[release.name]["spec"]
        source, files = spec["sources"]
        assert files["ref"] == "repository"
        assert spec["destination"]["namespace"] == release.namespace
        assert source["helm"]["releaseName"] == release.name
        values = [f"$repository/{file}" for file in release.value_files(ENVIRONMENT)]
        assert source["helm"]["valueFiles"] == values
        if release.version is None:
            assert source["path"] == "charts/millrace"
        else:
            assert (source["chart"], source["targetRevision"]) == (release.chart, release.version)
            assert source["repoURL"] == release.repository.removeprefix("oci://")


def wave(name):
    return int(APPLICATIONS[name]["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"])


def test_argo_cd_goes_in_the_order_of_the_installation():
    names = [release.name for release in releases()]
    order = ["namespaces", "secrets", *names[: names.index("airflow")], "kafka-ca", "airflow"]
    assert sorted(APPLICATIONS, key=wave) == order
    assert len({wave(name) for name in order}) == len(order)
    assert set(order) == set(APPLICATIONS)


def test_argo_cd_waits_for_what_it_has_a_health_check_for():
    checks = yaml.safe_load((GITOPS / "argocd" / "argocd-cm.yaml").read_text())["data"]
    kinds = {name.removeprefix("resource.customizations.health.") for name in checks}
    assert "argoproj.io_Application" in kinds  # without it, waves of applications wait for nothing
    assert {"kafka.strimzi.io_Kafka", "kafka.strimzi.io_KafkaTopic", "sparkoperator.k8s.io_SparkApplication"} <= kinds


def test_argo_cd_s_project_allows_what_the_applications_use_and_no_more():
    [project] = of_kind("AppProject")
    used, written = set(), {"argocd"}
    for each in [*APPLICATIONS.values(), *of_kind("Application", "root")]:
        spec = each["spec"]
        used |= {source["repoURL"] for source in spec.get("sources", [spec.get("source")])}
        written.add(spec["destination"]["namespace"])
        assert spec["project"] == project["metadata"]["name"]
    assert set(project["spec"]["sourceRepos"]) == used
    allowed = {each["namespace"] for each in project["spec"]["destinations"]}
    ours = {each["metadata"]["name"] for each in documents((REPOSITORY / "k8s" / "namespaces.yaml").read_text())}
    assert written <= allowed == ours | {"argocd", "default", "kube-system"}


def test_namespaces_are_never_pruned():
    assert APPLICATIONS["namespaces"]["spec"]["syncPolicy"]["automated"]["prune"] is False
    [namespaces] = [
        each for each in of_kind("Kustomization", "cluster.yaml") if each["metadata"]["name"] == "namespaces"
    ]
    assert namespaces["spec"]["prune"] is False


# Flux


def flux(kind):
    return {each["metadata"]["name"]: each["spec"] for each in of_kind(kind, "flux")}


def test_flux_has_each_release_with_its_chart_version_and_namespace():
    made = flux("HelmRelease")
    assert set(made) == {release.name for release in releases()}
    for release in releases():
        spec = made[release.name]
        assert (spec["releaseName"], spec["targetNamespace"]) == (release.name, release.namespace)
        if release.version is None:
            assert spec["chart"]["spec"]["chart"] == "./charts/millrace"
            files = spec["chart"]["spec"]["valuesFiles"]
            assert files == [
                "./charts/millrace/values.yaml",
                *(f"./{each}" for each in release.value_files(ENVIRONMENT)),
            ]
        elif release.repository.startswith("oci://"):
            source = flux("OCIRepository")[spec["chartRef"]["name"]]
            assert source["url"] == f"{release.repository}/{release.chart}"
            assert source["ref"] == {"tag": release.version}
        else:
            chart = spec["chart"]["spec"]
            assert (chart["chart"], chart["version"]) == (release.chart, release.version)
            assert flux("HelmRepository")[chart["sourceRef"]["name"]]["url"] == release.repository


def test_flux_goes_in_the_order_of_the_installation():
    made = flux("HelmRelease")
    before: list[str] = []
    for release in releases():
        assert [each["name"] for each in made[release.name].get("dependsOn", [])] == before
        before = [release.name]
    steps = {each["metadata"]["name"]: each["spec"] for each in of_kind("Kustomization", "cluster.yaml")}
    order = ["namespaces", "secrets", "platform", "kafka-ca", "airflow"]
    assert list(steps) == order
    for earlier, later in itertools.pairwise(order):
        assert steps[later]["dependsOn"] == [{"name": earlier}]
    for spec in steps.values():
        assert spec["wait"] is True
        assert (REPOSITORY / spec["path"] / "kustomization.yaml").exists() or spec["path"].endswith("kafka-ca")


def test_flux_waits_for_kafka_itself():
    spec = flux("HelmRelease")["millrace"]
    assert spec["waitStrategy"] == {"name": "poller"}
    assert {each["kind"] for each in spec["healthCheckExprs"]} == {"Kafka", "KafkaTopic", "KafkaUser"}


def built(folder):
    """What Flux makes of a folder: it lets a kustomization reach files elsewhere in the same repository."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("needs kubectl, for kustomize")
    command = [kubectl, "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(GITOPS / folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    return documents(result.stdout)


@pytest.mark.parametrize("folder", ["flux/platform", "flux/airflow"])
def test_flux_gives_each_release_the_very_files_of_values(folder):
    objects = built(folder)
    maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    by_name = {release.name: release for release in releases()}
    for each in objects:
        if each["kind"] != "HelmRelease" or "valuesFrom" not in each["spec"]:
            continue
        given = [maps[source["name"]][source["valuesKey"]] for source in each["spec"]["valuesFrom"]]
        files = by_name[each["metadata"]["name"]].value_files(ENVIRONMENT)
        assert given == [(REPOSITORY / file).read_text() for file in files]
        for source in each["spec"]["valuesFrom"]:
            assert re.search(r"-values-[a-z0-9]{10}$", source["name"])  # a change of a file is a change of the name


def test_flux_s_namespaces_are_those_of_the_file():
    assert sorted(each["metadata"]["name"] for each in built("flux/namespaces")) == sorted(
        each["metadata"]["name"] for each in documents((REPOSITORY / "k8s" / "namespaces.yaml").read_text())
    )


# Secrets


def made_by(folder):
    return {
        (each["metadata"]["namespace"], each["spec"]["target"]["name"]): each
        for each in of_kind("ExternalSecret", folder)
    }


def test_external_secrets_bring_what_production_needs_and_no_more():
    needed = {
        (namespace, name)
        for release in releases()
        for namespace, names in release.secrets(ENVIRONMENT).items()
        for name in names
    }
    everywhere = set(made_by("secrets")) - set(made_by("optional"))
    assert everywhere | set(made_by("kafka-ca")) == needed | {("streams", "kafka-ca")}
    assert set(made_by("kafka-ca")) == {("streams", "kafka-ca"), ("airflow", "kafka-ca")}
    # What other environments make for themselves can be had from the store as well.
    assert everywhere | set(made_by("optional")) == set(places())


def test_external_secrets_have_the_keys_that_are_read():
    from k8s.install.credentials import DERIVED, _values

    keys: dict[tuple[str, str], set[str]] = {}
    for value in _values().values():
        for namespace, name, key in value.keys:
            keys.setdefault((namespace, name), set()).add(key)
    for derived in DERIVED:
        found = dict.fromkeys(derived.sources, "x")
        keys[derived.place] = set(derived.make(found))
    for place, each in made_by("secrets").items():
        template = each["spec"]["target"].get("template", {}).get("data")
        given = set(template) if template else {entry["secretKey"] for entry in each["spec"]["data"]}
        assert given == keys[place], place


def test_airflow_s_connections_are_json_whatever_the_password():
    data = made_by("secrets")["airflow", "airflow-connections"]["spec"]["target"]["template"]["data"]
    for text in data.values():
        filled = re.sub(r"\{\{ \.\w+ \| toJson \}\}", lambda _: json.dumps('a "quoted" \\ one'), text)
        assert "{{" not in filled
        assert json.loads(filled)["conn_type"] in ("kafka", "aws")


def test_each_namespace_reads_only_its_own_part_of_the_store():
    for (namespace, _), each in {**made_by("secrets")}.items():
        assert each["spec"]["secretStoreRef"] == {"kind": "SecretStore", "name": "millrace"}
        for entry in each["spec"]["data"]:
            assert entry["remoteRef"]["key"].startswith(f"millrace/production/{namespace}/")
    stores = {each["metadata"]["namespace"] for each in of_kind("SecretStore", "secrets")}
    assert stores == {namespace for namespace, _ in made_by("secrets")}


def test_readers_of_kafka_s_certificate_may_read_that_one_secret():
    [role] = of_kind("Role", "kafka-ca")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["millrace-cluster-ca-cert"], "verbs": ["get"]}
    ]
    [binding] = of_kind("RoleBinding", "kafka-ca")
    accounts = {
        (each["metadata"]["namespace"], each["metadata"]["name"]) for each in of_kind("ServiceAccount", "kafka-ca")
    }
    assert {(each["namespace"], each["name"]) for each in binding["subjects"]} == accounts


def test_no_manifest_holds_a_secret():
    assert of_kind("Secret") == []


def test_health_checks_of_flux_wait_for_no_field_that_may_never_come():
    """An expression that reads a missing field is not false: Flux waits for it until its time is up."""
    checks = [check for each in EVERY for check in each[1].get("spec", {}).get("healthCheckExprs", [])]
    assert len(checks) >= 5
    for check in checks:
        for name in ("inProgress", "failed", "current"):
            assert not re.search(r"\bstatus\.(?!\?)", check.get(name, "")), check
