"""The stand-in for the Spark operator against a real API server: with the rights that its chart gives it, and no other.

Nothing runs in pods. A driver's pod is made by the real spark-submit once, else by what stands in for it here.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml

from embedded.java import find_java, home_for_spark
from embedded.paths import REPOSITORY
from millrace.targets.base import ApplicationState, Target
from tests.charts.render import render_chart
from tests.cluster.standins.spark_operator import names
from tests.cluster.standins.spark_operator.cluster import POD, Cluster, ConflictError, connect
from tests.cluster.standins.spark_operator.controller import Controller, Settings
from tests.cluster.standins.spark_operator.submission import SubmissionError, submit
from tests.cluster.standins.spark_operator.templates import pod_template
from tests.control_plane.conftest import OWNER, eventually
from tests.control_plane.pods import Kubelet
from tests.kubernetes.plane import ControlPlane

CHART = REPOSITORY / "tests/cluster/standins/charts/spark-operator"
VALUES = (REPOSITORY / "k8s/releases/spark-operator.yaml", REPOSITORY / "k8s/environments/kind/spark-operator.yaml")
ACCOUNT = "spark-operator-controller"
NAME = "event-windows"
DRIVER = f"{NAME}-driver"


@pytest.fixture
def account(plane: ControlPlane, place: str) -> Path:
    """The kubeconfig of the controller's service account, with what the chart makes in a job namespace."""
    objects = render_chart({"spark": {"jobNamespaces": [place]}}, files=VALUES, chart=CHART)
    rights = [each for each in objects if each["kind"] in ("Role", "RoleBinding")]
    name = rights[0]["metadata"]["name"]
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": place}
    rights[1]["subjects"] = [subject]
    service_account = {**subject, "apiVersion": "v1", "metadata": {"name": ACCOUNT, "namespace": place}}
    assert name.endswith("-controller")
    plane.kubectl(
        "create", "-f", "-", given=[{k: service_account[k] for k in ("apiVersion", "kind", "metadata")}, *rights]
    )
    return plane.kubeconfig(f"{place}-operator", token=plane.token(place, ACCOUNT), namespace=place)


class Submitter:
    """Makes a driver's pod as spark-submit does, or fails, as it is told."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.error = ""
        self.go_on = threading.Event()
        self.go_on.set()
        self.at_once = self.most_at_once = self.submissions = 0

    def __call__(self, app: dict[str, Any]) -> None:
        self.submissions += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.go_on.wait(60)
            if self.error:
                raise SubmissionError(self.error)
            self._cluster.create(POD, app["metadata"]["namespace"], self._pod(app))
        except ConflictError as error:
            raise SubmissionError("driver pod already exist") from error
        finally:
            self.at_once -= 1

    def _pod(self, app: dict[str, Any]) -> dict[str, Any]:
        pod = pod_template(app, "driver")
        labels = {**names.resource_labels(app), names.LAUNCHED: "true", names.ROLE: "driver"}
        pod["metadata"] |= {"name": names.driver_pod(app), "labels": {**labels, names.SPARK_APPLICATION_ID: "spark-1"}}
        pod["spec"] |= {"serviceAccountName": "spark", "restartPolicy": "Never"}
        pod["spec"]["containers"][0]["image"] = "none"
        return pod


@pytest.fixture
def submitter(account: Path) -> Submitter:
    return Submitter(Cluster(connect(str(account))))


class Operators:
    """Starts operators, one after the other."""

    def __init__(self, account: Path, namespace: str, submitter: Callable[[dict[str, Any]], None]) -> None:
        self._account, self._namespace = account, namespace
        self.submitter = submitter
        self.current: Controller | None = None

    def start(self) -> Controller:
        settings = Settings([self._namespace], workers=2, driver_patience=2)
        self.current = Controller(Cluster(connect(str(self._account))), settings, self.submitter)
        self.current.start()
        eventually(self.current.ready)
        return self.current

    def stop(self) -> None:
        if self.current:
            assert self.current.stop(30)
            self.current = None


@pytest.fixture
def operators(account: Path, place: str, submitter: Submitter) -> Iterator[Operators]:
    made = Operators(account, place, submitter)
    made.start()
    yield made
    made.stop()


class Application:
    """The SparkApplication event-windows as it is in the cluster."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane, self._namespace = plane, namespace

    def create(self, **changes: Any) -> None:
        document = yaml.safe_load((REPOSITORY / f"spark-apps/{NAME}/application.yaml").read_text())
        policy = {"onFailureRetryInterval": 1, "onSubmissionFailureRetryInterval": 1}
        document["spec"]["restartPolicy"] |= policy
        document["spec"] |= changes
        document["metadata"]["namespace"] = self._namespace
        self._plane.kubectl("create", "-f", "-", given=document)

    def status(self) -> dict[str, Any]:
        return self._get("sparkapplication", NAME).get("status") or {}

    def change(self, **spec: Any) -> None:
        arguments = ("--namespace", self._namespace, "--type=merge", "--patch-file=/dev/stdin")
        self._plane.kubectl("patch", "sparkapplication", NAME, *arguments, given={"spec": spec})

    def delete(self) -> None:
        arguments = ("--namespace", self._namespace, "--cascade=foreground", "--wait=false")
        self._plane.kubectl("delete", "sparkapplication", NAME, *arguments)

    def becomes(self, state: str) -> dict[str, Any]:
        """Wait for a state; return the status."""

        def look() -> dict[str, Any] | None:
            status = self.status()
            return status if status.get("applicationState", {}).get("state") == state else None

        return eventually(look)

    def driver(self) -> dict[str, Any] | None:
        return self._get("pod", DRIVER) or None

    def exists(self) -> bool:
        return bool(self._get("sparkapplication", NAME))

    def next_driver(self, after: str = "") -> str:
        """Wait for a driver's pod that isn't the one with this uid; return its own."""
        return eventually(lambda: (pod := self.driver()) and pod["metadata"]["uid"] != after and pod["metadata"]["uid"])

    def events(self) -> list[str]:
        found = self._plane.get("events", f"--namespace={self._namespace}")["items"]
        ours = [each for each in found if each["involvedObject"]["name"] == NAME]
        return [each["reason"] for each in sorted(ours, key=lambda each: each["metadata"]["resourceVersion"])]

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        arguments = ("get", kind, name, "--namespace", self._namespace, "--ignore-not-found", "--output=yaml")
        return yaml.safe_load(self._plane.kubectl(*arguments).stdout) or {}


@pytest.fixture
def application(plane: ControlPlane, place: str) -> Application:
    return Application(plane, place)


@pytest.fixture
def running(application: Application, operators: Operators, kubelet: Kubelet) -> str:
    """The application runs, and its driver's pod is on a node; the pod's uid."""
    application.create()
    uid = application.next_driver()
    kubelet.assign(DRIVER)
    kubelet.runs(DRIVER)
    application.becomes("RUNNING")
    return uid


def test_the_real_spark_submit_makes_a_driver_that_the_namespace_admits(
    plane: ControlPlane,
    place: str,
    account: Path,
    application: Application,
    target: Target,
    manifest: Path,
    tmp_path: Path,
    kubelet: Kubelet,
) -> None:
    java = home_for_spark(find_java(), tmp_path / "java")

    def run(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
        spark = Path(pyspark.__file__).parent
        environment = {
            "SPARK_HOME": str(spark),
            "JAVA_HOME": str(java),
            "KUBECONFIG": str(account),
            "PATH": "/usr/bin:/bin",
        }
        return subprocess.run(
            [spark / "bin/spark-submit", *arguments], env=environment, capture_output=True, text=True, check=False
        )

    operators = Operators(account, place, lambda app: submit(app, f"k8s://{plane.url}", run, tmp_path))
    operators.start()
    try:
        target.start_application(manifest, OWNER)
        status = application.becomes("SUBMITTED")
        assert (status["executionAttempts"], status["submissionAttempts"]) == (1, 1)
        pod = application.driver()
        assert pod is not None
        labels, spec = pod["metadata"]["labels"], pod["spec"]
        assert labels["sparkoperator.k8s.io/app-name"] == NAME
        assert labels["sparkoperator.k8s.io/submission-id"] == status["submissionID"]
        assert (labels["spark-role"], labels["app.kubernetes.io/component"]) == ("driver", "stream")
        assert [each["kind"] for each in pod["metadata"]["ownerReferences"]] == ["SparkApplication"]
        assert (spec["terminationGracePeriodSeconds"], spec["serviceAccountName"]) == (60, "spark")
        (container,) = spec["containers"]
        assert container["securityContext"]["runAsNonRoot"]
        assert {"metrics", "spark-ui"} <= {port["name"] for port in container["ports"]}
        assert container["resources"]["requests"]["cpu"] == "250m"
        assert {"KAFKA_USERNAME", "MILLRACE_METRICS_PORT"} <= {each["name"] for each in container["env"]}
        assert {"/etc/millrace/kafka", "/opt/spark/conf"} <= {each["mountPath"] for each in container["volumeMounts"]}
        maps = plane.get("configmaps", f"--namespace={place}")["items"]
        (template,) = [each for each in maps if "podspec-configmap-key" in (each.get("data") or {})]
        executor = yaml.safe_load(template["data"]["podspec-configmap-key"])["spec"]["containers"][0]
        assert executor["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        info = eventually(lambda: application.status()["driverInfo"].get("webUIServiceName") and application.status())
        assert info["driverInfo"]["webUIServiceName"] == f"{NAME}-ui-svc"
        kubelet.runs(DRIVER)
        application.becomes("RUNNING")
        assert target.application_status(NAME).state is ApplicationState.RUNNING
        again = target.stop_application(NAME, 0.1, OWNER)
        assert again.state is ApplicationState.FAILED
        assert "by force" in again.message
    finally:
        operators.stop()


def test_it_runs_and_completes(application: Application, running: str, kubelet: Kubelet, operators: Operators) -> None:
    kubelet.ends(DRIVER)
    status = application.becomes("COMPLETED")
    assert status["terminationTime"]
    assert status["sparkApplicationId"] == "spark-1"
    assert application.events() == ["SparkApplicationSubmitted", "SparkDriverRunning", "SparkDriverCompleted"]
    assert operators.current is not None
    text = operators.current.metrics.text()
    for name, count in (("submit_count", 1), ("running_count", 0), ("success_count", 1)):
        assert f'spark_application_{name}{{app_type="Unknown"}} {count}\n' in text


def test_a_failure_is_followed_by_another_try(application: Application, running: str, kubelet: Kubelet) -> None:
    kubelet.ends(DRIVER, 1)
    application.next_driver(running)
    assert application.becomes("SUBMITTED")["executionAttempts"] == 2
    assert application.events()[1:] == [
        "SparkDriverRunning",
        "SparkDriverFailed",
        "SparkApplicationPendingRerun",
        "SparkApplicationSubmitted",
    ]


def test_a_driver_that_is_lost_is_followed_by_another(
    application: Application, running: str, kubelet: Kubelet, submitter: Submitter
) -> None:
    kubelet.is_gone(DRIVER)
    application.next_driver(running)
    assert application.becomes("SUBMITTED")["executionAttempts"] == 2
    assert submitter.submissions == 2


def test_without_retries_a_failure_is_the_end(
    application: Application, operators: Operators, kubelet: Kubelet, submitter: Submitter
) -> None:
    application.create(restartPolicy={"type": "Never"})
    application.next_driver()
    kubelet.ends(DRIVER, 1)
    assert application.becomes("FAILED")["terminationTime"]
    assert submitter.submissions == 1


def test_a_submission_that_fails_is_tried_again_and_then_given_up(
    application: Application, operators: Operators, submitter: Submitter
) -> None:
    submitter.error = "no such image"
    application.create(restartPolicy={**POLICY, "onSubmissionFailureRetries": 1})
    status = application.becomes("FAILED")
    assert status["applicationState"]["errorMessage"] == "no such image"
    assert status["submissionAttempts"] == 2
    assert "executionAttempts" not in status
    assert application.events().count("SparkApplicationSubmissionFailed") == 2


POLICY = {
    "type": "OnFailure",
    "onFailureRetries": 1,
    "onFailureRetryInterval": 1,
    "onSubmissionFailureRetryInterval": 1,
}


def test_a_suspended_application_has_no_driver_until_it_is_resumed(
    application: Application, running: str, kubelet: Kubelet, submitter: Submitter
) -> None:
    application.change(suspend=True)
    application.becomes("SUSPENDED")
    pod = application.driver()
    assert pod
    assert pod["metadata"]["deletionTimestamp"]
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 60
    # It ends its batch, and is asked back meanwhile: not before it is gone.
    application.change(suspend=False)
    time.sleep(2)
    assert submitter.submissions == 1
    kubelet.is_gone(DRIVER)
    application.next_driver(running)
    application.becomes("SUBMITTED")


def test_a_new_spec_ends_the_driver_and_starts_another(
    application: Application, running: str, kubelet: Kubelet, submitter: Submitter
) -> None:
    application.change(image="other:1")
    application.becomes("PENDING_RERUN")
    time.sleep(1)
    assert submitter.submissions == 1
    kubelet.is_gone(DRIVER)
    application.next_driver(running)
    status = application.becomes("SUBMITTED")
    assert (status["executionAttempts"], status["submissionAttempts"]) == (1, 1)


def test_a_deleted_application_takes_its_driver_with_it(
    application: Application, running: str, kubelet: Kubelet, submitter: Submitter
) -> None:
    application.delete()
    eventually(lambda: (application.driver() or {}).get("metadata", {}).get("deletionTimestamp"))
    kubelet.is_gone(DRIVER)
    eventually(lambda: not application.exists())
    assert submitter.submissions == 1


def test_another_operator_goes_on_where_the_last_one_was(
    application: Application, running: str, kubelet: Kubelet, operators: Operators, submitter: Submitter
) -> None:
    operators.stop()
    operators.start()
    time.sleep(1)
    assert application.status()["applicationState"]["state"] == "RUNNING"
    operators.stop()
    kubelet.ends(DRIVER)
    operators.start()
    application.becomes("COMPLETED")
    assert submitter.submissions == 1


def test_an_operator_that_was_killed_while_it_submitted_makes_no_second_driver(
    application: Application, account: Path, operators: Operators, kubelet: Kubelet, submitter: Submitter
) -> None:
    operators.stop()
    application.create()
    app = application._get("sparkapplication", NAME)
    submitter({**app, "status": {"submissionID": "of-the-one-that-was-killed"}})
    kubelet.assign(DRIVER)
    kubelet.runs(DRIVER)
    first = application.next_driver()
    operators.start()
    failed = application.becomes("SUBMISSION_FAILED")
    assert failed["applicationState"]["errorMessage"] == "driver pod already exist"
    eventually(lambda: (application.driver() or {}).get("metadata", {}).get("deletionTimestamp"))
    submissions = submitter.submissions
    time.sleep(1)
    assert submitter.submissions == submissions
    kubelet.is_gone(DRIVER)
    application.next_driver(first)
    application.becomes("SUBMITTED")


def test_a_submission_holds_up_nobody_else(
    plane: ControlPlane, place: str, application: Application, operators: Operators, submitter: Submitter
) -> None:
    submitter.go_on.clear()
    application.create()
    eventually(lambda: submitter.at_once == 1)
    other = yaml.safe_load((REPOSITORY / f"spark-apps/{NAME}/application.yaml").read_text())
    other["metadata"] |= {"name": "other", "namespace": place}
    plane.kubectl("create", "-f", "-", given=other)
    eventually(lambda: submitter.at_once == 2)
    submitter.go_on.set()
    application.becomes("SUBMITTED")
    assert submitter.submissions == 2
