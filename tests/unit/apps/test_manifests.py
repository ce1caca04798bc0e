"""Every app's application.yaml, as an API server with the Spark operator's definition takes it."""

from pathlib import Path

import pytest
import yaml

from embedded.paths import REPOSITORY
from embedded.versions import versions
from tests.charts.schemas import problems
from tests.definitions import operators_definitions

MANIFESTS = sorted((REPOSITORY / "spark-apps").glob("*/application.yaml"))
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}

each_manifest = pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.parent.name)


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


@each_manifest
def test_it_is_what_the_operator_takes(path):
    definition = operators_definitions()["SparkApplication"]
    assert problems(load(path), definition) == []
    wrong = load(path)
    wrong["spec"]["driver"]["memroy"] = "1g"
    assert any("memroy" in problem for problem in problems(wrong, definition))


@each_manifest
def test_versions_are_those_of_versions_yaml(path):
    spec = load(path)["spec"]
    assert spec["sparkVersion"] == versions()["spark"]["version"]
    assert spec["image"].startswith("millrace/spark:")


@each_manifest
def test_its_pods_are_restricted_and_its_secrets_are_its_own(path):
    application = load(path)
    name, spec = application["metadata"]["name"], application["spec"]
    assert spec["driver"]["securityContext"] == spec["executor"]["securityContext"] == RESTRICTED
    assert "serviceAccount" not in spec["executor"]
    references = [
        entry["valueFrom"]["secretKeyRef"]
        for role in ("driver", "executor")
        for entry in spec[role]["env"]
        if "valueFrom" in entry and not entry["name"].startswith(("CLICKHOUSE_", "OPENSEARCH_"))  # of sinks, if wanted
    ]
    # A batch app reaches no broker, so it has no user there.
    kafka = (
        {f"kafka-user-{name}"}
        if application["metadata"]["labels"]["app.kubernetes.io/component"] == "stream"
        else set()
    )
    assert {reference["name"] for reference in references} == {*kafka, "object-store"}
    assert not any("PASSWORD" in entry["name"] and "value" in entry for entry in spec["driver"]["env"])


@each_manifest
def test_a_stream_has_the_executors_that_its_backlog_wants_and_a_batch_those_it_says(path):
    application = load(path)
    spec = application["spec"]
    if application["metadata"]["labels"]["app.kubernetes.io/component"] != "stream":
        assert "dynamicAllocation" not in spec
        assert spec["executor"]["instances"] >= 1
        return
    # Spark begins with the larger of the two.
    assert "instances" not in spec["executor"]
    allocation = spec["dynamicAllocation"]
    assert allocation["enabled"]
    assert 1 <= allocation["minExecutors"] <= allocation["initialExecutors"] < allocation["maxExecutors"]
    # Without it an executor that once wrote a shuffle stays for ever.
    assert 0 < allocation["shuffleTrackingTimeout"] <= 600_000


@each_manifest
def test_spark_s_own_log_is_json_as_the_app_s_is(path):
    assert load(path)["spec"]["sparkConf"]["spark.log.structuredLogging.enabled"] == "true"
