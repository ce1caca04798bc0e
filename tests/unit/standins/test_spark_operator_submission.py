"""What the stand-in for the Spark operator tells spark-submit, and what it puts into pods."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded.paths import REPOSITORY
from millrace.targets import spark_resource
from millrace.targets.names import OWNER
from tests.cluster.standins.spark_operator import web_ui
from tests.cluster.standins.spark_operator.defaults import with_defaults
from tests.cluster.standins.spark_operator.submission import SubmissionError, command, master, run_spark_submit, submit
from tests.cluster.standins.spark_operator.templates import pod_template

MASTER = "k8s://https://10.96.0.1:443"
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def submitted(document: dict[str, Any]) -> dict[str, Any]:
    """An application as it is when it is submitted."""
    app = with_defaults(document)
    app["metadata"] = {"namespace": "streams", "uid": "1-2", **app["metadata"]}
    app["status"] = {"submissionID": "an-id"}
    return app


@pytest.fixture
def app() -> dict[str, Any]:
    """The manifest of event-windows, as the target makes it in the cluster."""
    document = yaml.safe_load((REPOSITORY / "spark-apps/event-windows/application.yaml").read_text())
    made = spark_resource.build(
        document, namespace="streams", owner="dag/run", image="registry/spark:1", arguments=["--seconds", "5"]
    )
    return submitted(made)


def small(**spec: Any) -> dict[str, Any]:
    return submitted({"metadata": {"name": "small"}, "spec": {"mainApplicationFile": "local:///a.py", **spec}})


def settings(app: dict[str, Any]) -> dict[str, str]:
    """The last value of each setting, which is the one that counts."""
    arguments = command(app, MASTER, Path("/templates"))
    pairs = [arguments[i + 1] for i, each in enumerate(arguments) if each == "--conf"]
    return dict(pair.split("=", 1) for pair in pairs)


def test_event_windows_is_submitted_as_upstream_does(app: dict[str, Any]) -> None:
    arguments = command(app, MASTER, Path("/templates"))
    assert arguments[:6] == ["--master", MASTER, "--deploy-mode", "cluster", "--name", "event-windows"]
    file = "local:///opt/millrace/spark-apps/event-windows/app.py"
    assert arguments[arguments.index(file) + 1 :] == [
        "--settings",
        "local:///opt/millrace/spark-apps/event-windows/settings.yaml",
        "--seconds",
        "5",
    ]
    found = settings(app)
    expected = {
        "spark.kubernetes.namespace": "streams",
        "spark.kubernetes.container.image": "registry/spark:1",
        "spark.kubernetes.container.image.pullPolicy": "IfNotPresent",
        "spark.kubernetes.submission.waitAppCompletion": "false",
        "spark.kubernetes.driver.pod.name": "event-windows-driver",
        "spark.kubernetes.driver.podTemplateFile": "/templates/driver-pod-template.yaml",
        "spark.kubernetes.driver.podTemplateContainerName": "spark-kubernetes-driver",
        "spark.kubernetes.executor.podTemplateFile": "/templates/executor-pod-template.yaml",
        "spark.kubernetes.executor.podTemplateContainerName": "spark-kubernetes-executor",
        "spark.kubernetes.authenticate.driver.serviceAccountName": "spark",
        "spark.driver.cores": "1",
        "spark.driver.memory": "1g",
        "spark.kubernetes.driver.request.cores": "250m",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.initialExecutors": "1",
        "spark.dynamicAllocation.minExecutors": "1",
        "spark.dynamicAllocation.maxExecutors": "3",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.timeout": "60000",
        "spark.executor.cores": "2",
        "spark.executor.memory": "1g",
        "spark.kubernetes.executor.request.cores": "500m",
        "spark.driver.extraJavaOptions": "-XX:+UseParallelGC -XX:NewRatio=1",
        f"spark.kubernetes.driver.annotation.{OWNER}": "dag/run",
    }
    assert expected.items() <= found.items()
    assert "spark.executor.instances" not in found
    for role in ("driver", "executor"):
        label = f"spark.kubernetes.{role}.label"
        labels = {key.removeprefix(f"{label}."): value for key, value in found.items() if key.startswith(label)}
        assert labels == {
            "sparkoperator.k8s.io/app-name": "event-windows",
            "sparkoperator.k8s.io/launched-by-spark-operator": "true",
            "sparkoperator.k8s.io/mutated-by-spark-operator": "true",
            "sparkoperator.k8s.io/submission-id": "an-id",
            "app.kubernetes.io/name": "event-windows",
            "app.kubernetes.io/part-of": "millrace",
            "app.kubernetes.io/component": "stream",
        } | {key: value for key, value in labels.items() if key.startswith("millrace")}


def test_the_driver_of_event_windows_gets_what_the_webhook_gives(app: dict[str, Any]) -> None:
    driver = app["spec"]["driver"]
    template = pod_template(app, "driver")
    pod, (container,) = template["spec"], template["spec"]["containers"]
    assert template["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "sparkoperator.k8s.io/v1beta2",
            "kind": "SparkApplication",
            "name": "event-windows",
            "uid": "1-2",
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    assert container["name"] == "spark-kubernetes-driver"
    assert container["securityContext"] == RESTRICTED
    assert container["env"] == driver["env"]
    assert container["envFrom"] == [{"configMapRef": {"name": "millrace"}}]
    assert container["ports"] == [{"name": "metrics", "containerPort": 8090, "protocol": "TCP"}]
    assert container["volumeMounts"] == driver["volumeMounts"]
    assert pod["volumes"] == app["spec"]["volumes"]
    assert pod["terminationGracePeriodSeconds"] == 60


def test_executors_of_event_windows_get_what_the_webhook_gives(app: dict[str, Any]) -> None:
    template = pod_template(app, "executor")
    (container,) = template["spec"]["containers"]
    assert container["name"] == "spark-kubernetes-executor"
    assert container["securityContext"] == RESTRICTED
    assert container["env"] == app["spec"]["executor"]["env"]
    assert "volumes" not in template["spec"]
    (owner,) = template["metadata"]["ownerReferences"]
    assert "controller" not in owner


def test_what_else_pods_can_be_given() -> None:
    part = {
        "priorityClassName": "high",
        "podSecurityContext": {"runAsUser": 10001},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "only"}],
        "sidecars": [{"name": "beside", "image": "beside:1"}],
        "configMaps": [{"name": "settings", "path": "/etc/settings"}],
        "volumeMounts": [
            {"name": "none", "mountPath": "/none"},
            {"name": "spark-local-dir-1", "mountPath": "/scratch"},
        ],
    }
    app = small(executor=part, volumes=[{"name": "spark-local-dir-1", "emptyDir": {"sizeLimit": "1Gi"}}])
    pod = pod_template(app, "executor")["spec"]
    assert pod["priorityClassName"] == "high"
    assert pod["securityContext"] == {"runAsUser": 10001}
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"disk": "fast"}, [{"key": "only"}])
    assert [each["name"] for each in pod["containers"]] == ["spark-kubernetes-executor", "beside"]
    assert pod["volumes"] == [{"name": "settings-vol", "configMap": {"name": "settings"}}]
    found = settings(app)
    key = "spark.kubernetes.executor.volumes.emptyDir.spark-local-dir-1"
    assert (found[f"{key}.mount.path"], found[f"{key}.options.sizeLimit"]) == ("/scratch", "1Gi")


def test_a_template_of_the_applications_own_is_only_given_its_owner() -> None:
    template = {"spec": {"containers": [{"name": "spark-kubernetes-driver", "image": "own"}]}}
    app = small(driver={"template": template, "env": [{"name": "A", "value": "b"}]})
    made = pod_template(app, "driver")
    assert made["spec"] == template["spec"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == "1-2"
    assert "spark.kubernetes.driver.label.sparkoperator.k8s.io/mutated-by-spark-operator" not in settings(app)


def test_defaults_are_those_of_the_webhook() -> None:
    found = settings(small())
    assert [found[f"spark.{key}"] for key in ("driver.cores", "driver.memory", "executor.memory")] == ["1", "1g", "1g"]
    assert found["spark.executor.instances"] == "1"
    assert "spark.driver.memory" in settings(small(sparkConf={"spark.driver.memory": "2g"}))
    assert settings(small(sparkConf={"spark.driver.memory": "2g"}))["spark.driver.memory"] == "2g"


def test_what_the_operator_sets_wins_over_the_applications_settings() -> None:
    conf = {"spark.kubernetes.driver.pod.name": "mine", "spark.executor.cores": "9"}
    found = settings(small(sparkConf=conf, executor={"cores": 3}, hadoopConf={"fs.a": "b"}))
    assert found["spark.kubernetes.driver.pod.name"] == "mine"
    assert found["spark.executor.cores"] == "3"
    assert found["spark.hadoop.fs.a"] == "b"


def test_executors_can_be_allocated_dynamically() -> None:
    found = settings(small(dynamicAllocation={"enabled": True, "maxExecutors": 4}))
    assert found["spark.dynamicAllocation.enabled"] == "true"
    assert found["spark.dynamicAllocation.maxExecutors"] == "4"
    assert found["spark.dynamicAllocation.shuffleTracking.enabled"] == "true"
    assert "spark.executor.instances" not in found


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"driver": {"memoryLimit": "2g"}}, "spec.driver.memoryLimit"),
        ({"monitoring": {"exposeDriverMetrics": True}}, "spec.monitoring"),
        ({"mode": "client"}, "spec.mode client"),
    ],
)
def test_what_is_left_out_is_refused(spec: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(SubmissionError, match=named):
        submit(small(**spec), MASTER, run=lambda _: pytest.fail("it was submitted"), folder=tmp_path)


class Submit:
    """Stands in for spark-submit, and keeps what it found."""

    def __init__(self, code: int = 0, stderr: str = "") -> None:
        self._result = subprocess.CompletedProcess([], code, "", stderr)
        self.templates: dict[str, Any] = {}

    def __call__(self, arguments: list[str]) -> "subprocess.CompletedProcess[str]":
        pairs = [arguments[i + 1].split("=", 1) for i, each in enumerate(arguments) if each == "--conf"]
        self.templates = {key: json.loads(Path(value).read_text()) for key, value in pairs if "TemplateFile" in key}
        return self._result


def test_templates_are_there_only_while_spark_submit_runs(app: dict[str, Any], tmp_path: Path) -> None:
    run = Submit()
    submit(app, MASTER, run, tmp_path)
    assert run.templates == {
        f"spark.kubernetes.{role}.podTemplateFile": pod_template(app, role) for role in ("driver", "executor")
    }
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("stderr", "message"),
    [
        (
            "it broke",
            "failed to submit spark application: failed to run spark-submit: failed to run spark-submit: it broke",
        ),
        (
            'Message: pods "x-driver" already exists. (code=409, reason=AlreadyExists)',
            "failed to submit spark application: failed to run spark-submit: driver pod already exist",
        ),
    ],
)
def test_a_submission_that_fails_says_why(stderr: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SubmissionError) as caught:
        submit(small(), MASTER, Submit(1, stderr), tmp_path)
    assert str(caught.value) == message
    assert [*tmp_path.iterdir()] == []


def test_spark_submit_does_not_pass_this_images_pythons_on_to_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "spark-submit"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$PYSPARK_PYTHON $PYSPARK_DRIVER_PYTHON $KEPT $*" >&2\nexit 3\n')
    program.chmod(0o755)
    for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "KEPT"):
        monkeypatch.setenv(name, "value")
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    result = run_spark_submit(["--name", "a"])
    assert (result.returncode, result.stderr.split()) == (3, ["value", "--name", "a"])
    monkeypatch.delenv("SPARK_HOME")
    with pytest.raises(SubmissionError, match="SPARK_HOME"):
        submit(small(), MASTER, folder=tmp_path)


def test_what_upstream_does_not_say_gives_way_to_the_application() -> None:
    excluded = "spark.kubernetes.driver.pod.excludedFeatureSteps"
    assert settings(small())[excluded].endswith("NetworkPolicyFeatureStep")
    assert settings(small(sparkConf={excluded: "none"}))[excluded] == "none"


def test_the_api_server_is_the_one_of_the_pods_environment() -> None:
    assert master({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}) == MASTER
    assert master({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "1"}) == "k8s://https://[fd00::1]:1"


def test_the_ui_has_a_service(app: dict[str, Any]) -> None:
    service = web_ui.service(app)
    assert service["metadata"]["name"] == "event-windows-ui-svc"
    assert service["spec"]["selector"] == {"sparkoperator.k8s.io/app-name": "event-windows", "spark-role": "driver"}
    assert service["spec"]["ports"] == [{"name": "spark-driver-ui-port", "port": 4040, "targetPort": 4040}]
    moved = small(sparkConf={"spark.ui.port": "4050"})
    assert web_ui.service(moved)["spec"]["ports"][0]["targetPort"] == 4050
    long = submitted({"metadata": {"name": "n" * 63}, "spec": {}})
    assert len(web_ui.service(long)["metadata"]["name"]) == 63
