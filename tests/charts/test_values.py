"""The chart's values: described, typed, and refused in one sentence where they make no sense."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml

from embedded.paths import REPOSITORY
from embedded.versions import versions
from tests.charts.render import CHART, EVERYTHING, RenderError, helm, render_chart, render_text

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


def groups(schema, path=""):
    """Every group of values that the schema describes: its path and its properties."""
    if "properties" in schema:
        yield path, schema
        for name, child in schema["properties"].items():
            yield from groups(child, f"{path}.{name}".lstrip("."))
    for entry in (schema.get("additionalProperties"), schema.get("items")):
        if isinstance(entry, dict):
            yield from groups(entry, f"{path}.*".lstrip("."))


def test_every_value_is_described_and_unknown_ones_are_refused():
    shared = SCHEMA["definitions"].values()
    for path, group in [*groups(SCHEMA), *(found for each in shared for found in groups(each))]:
        assert group["additionalProperties"] is False, path
        for name, child in group["properties"].items():
            assert child.get("description", "").endswith("."), f"{path}.{name}"


def test_values_and_schema_name_the_same():
    def keys(tree, schema, path=""):
        if "properties" not in schema or not isinstance(tree, dict):
            return
        expected = set(schema["properties"]) - {"global"}
        assert set(tree) == expected, path
        for name in expected:
            keys(tree[name], schema["properties"][name], f"{path}.{name}")

    keys(VALUES, SCHEMA)


def test_every_value_has_its_comment():
    """A group may go without; each value that is set has a line that begins with `# --`."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        found = re.match(r"^( {0,6})([a-zA-Z]+): \S", line)
        if found and not re.match(r"^\s+(requests|limits|read|write|manage|groups):", line):
            above = number - 1
            while lines[above].lstrip().startswith("# ") and not lines[above].lstrip().startswith("# --"):
                above -= 1
            assert lines[above].lstrip().startswith("# --"), line


def test_versions_are_those_of_versions_yaml():
    assert VALUES["kafka"]["version"] == versions()["kafka"]["version"]
    images = versions()["images"]
    assert VALUES["postgresql"]["image"] == images["postgresql"]
    assert VALUES["postgresql"]["exporter"]["image"] == images["postgresql-exporter"]
    assert VALUES["objectStore"]["image"] == images["object-store"]
    assert VALUES["kafkaUi"]["image"] == images["kafka-ui"]
    # What the tests try is what runs.
    assert images["object-store"].endswith(f":v{versions()['tools']['versitygw']}")
    for name in ("minimum", "tested"):
        assert str(versions()["kubernetes"][f"{name}_release"]).startswith(f"{versions()['kubernetes'][name]}.")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert chart["kubeVersion"] == f">={versions()['kubernetes']['minimum']}.0-0"
    assert "dependencies" not in chart


def test_topics_are_those_of_the_contracts():
    ours = (CHART / "files" / "topics.yaml").read_bytes()
    assert ours == (REPOSITORY / "contracts" / "topics.yaml").read_bytes(), (
        "copy it: cp contracts/topics.yaml charts/millrace/files/topics.yaml"
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kafkas": {}}, ["kafkas", "not allowed"]),
        ({"kafka": {"brokers": {"replicas": "three"}}}, ["replicas", "integer"]),
        ({"kafka": {"brokers": {"storage": {"size": "50 GB"}}}}, ["size", "does not match pattern"]),
        ({"environment": "prod"}, ["environment", "development"]),
        ({"topics": {"events": {"partition": 3}}}, ["partition", "not allowed"]),
        (
            {"environment": "production", "kafka": {"listeners": {"plain": {"enabled": True}}}},
            ["plain is on in production", "set kafka.listeners.plain.enabled to false"],
        ),
        ({"kafka": {"listeners": {"tls": {"enabled": False}}}}, ["no listener", "kafka.listeners.tls.enabled"]),
        ({"kafka": {"brokers": {"replicas": 2}}}, ["replicationFactor is 3 and there are 2 brokers"]),
        ({"kafka": {"minInsyncReplicas": 4}}, ["minInsyncReplicas is 4", "nothing could be written"]),
        ({"kafka": {"controllers": {"replicas": 2}}}, ["controllers.replicas is 2", "odd"]),
        (
            {"environment": "production", "kafka": {"replicationFactor": 2, "minInsyncReplicas": 1}},
            ["replicationFactor is 2 in production", "at least 3"],
        ),
        (
            {"environment": "production", "kafka": {"minInsyncReplicas": 3}},
            ["minInsyncReplicas is 3 in production", "less than replicationFactor"],
        ),
        ({"topics": {"events": {"replicas": 5}}}, ["topics.events.replicas is 5", "3 brokers"]),
        ({"topics": {"events": {"replicas": 1}}}, ["topics.events.replicas is 1", "below kafka.minInsyncReplicas 2"]),
        ({"topics": {"mine": {"replicas": 3}}}, ["topics.mine has no partitions"]),
        ({"topics": {"events": None}}, ["names the topic events, which does not exist", "topics.events"]),
        ({"users": {"other": {"read": ["evnts"]}}}, ["users.other.read names the topic evnts"]),
        ({"namespaces": {"streams": "airflow"}}, ["namespaces.airflow and namespaces.streams are both airflow"]),
        ({"namespaces": {"streams": "millrace"}}, ["namespaces.streams and the release are both millrace"]),
        ({"environment": "production"}, ["postgresql is on in production", "set postgresql.enabled to false"]),
        ({"postgresql": {"enabled": False}}, ["postgresql.external.cidrs is empty", "set postgresql.external.cidrs"]),
        ({"objectStore": {"enabled": False}}, ["no place for checkpoints", "set objectStore.external.bucket"]),
        (
            {"objectStore": {"enabled": False, "external": {"bucket": "mine"}}},
            ["neither endpoint nor region", "set objectStore.external.endpoint"],
        ),
        (
            {"objectStore": {"external": {"bucket": "mine"}}},
            ["objectStore.external.bucket is set", "set objectStore.enabled to false"],
        ),
        ({"objectStore": {"bucket": "My_Bucket"}}, ["bucket", "does not match pattern"]),
        ({"postgresql": {"image": "postgres latest"}}, ["image", "does not match pattern"]),
        ({"networkPolicies": {"apiServer": {"cidrs": []}}}, ["cidrs", "minItems"]),
        ({"networkPolicies": {"apiServer": {"cidrs": ["10.0.0.1"]}}}, ["cidrs", "does not match pattern"]),
        ({"kafkaUi": {"resources": {"limits": {"memory": "lots"}}}}, ["memory", "does not match pattern"]),
        ({"images": {"pullPolicy": "Sometimes"}}, ["pullPolicy", "Always"]),
    ],
)
def test_bad_values_are_refused_in_one_sentence(values, words):
    with pytest.raises(RenderError) as refused:
        render_chart(values)
    for word in words:
        assert word in str(refused.value)


def test_a_laptop_s_values_pass():
    assert render_chart({"kafka": {"brokers": {"replicas": 1}, "replicationFactor": 1, "minInsyncReplicas": 1}})


@pytest.mark.parametrize("files", [(), ("--values", str(EVERYTHING))], ids=["default", "everything"])
def test_helm_has_nothing_against_it(files):
    command = [str(helm()), "lint", "--strict", "--quiet", "--kube-version", versions()["kubernetes"]["tested"], *files]
    result = subprocess.run([*command, str(CHART)], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_two_renders_are_the_same_bytes():
    assert render_text() == render_text()


def test_nothing_in_the_templates_depends_on_when_or_where_they_are_rendered():
    forbidden = r"\b(lookup|rand\w+|now|date\w*|uuidv4|genCA|genSelfSignedCert|genSignedCert|genPrivateKey|htpasswd)\b"
    for template in (CHART / "templates").rglob("*"):
        if template.is_file():
            code = " ".join(re.findall(r"\{\{.*?\}\}", template.read_text(), re.DOTALL))
            code = re.sub(r"\{\{-?\s*/\*.*?\*/\s*-?\}\}|\"[^\"]*\"", "", code, flags=re.DOTALL)
            assert not re.search(forbidden, code), template
            assert ".Release.IsInstall" not in code
            assert "helm.sh/hook" not in template.read_text()
