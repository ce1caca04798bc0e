"""Names, labels, objects and what their status means: pure functions, no cluster."""

import tomllib
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from embedded.paths import REPOSITORY
from millrace.config import load_settings
from millrace.errors import MillraceError
from millrace.targets import job_resource, pods, spark_resource
from millrace.targets.base import ApplicationState, JobSpec, JobState
from millrace.targets.names import label_value, require_name

STATES = [state for state in ApplicationState if state is not ApplicationState.NEW]


def application(state: str = "RUNNING", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "app", "uid": "1", "annotations": {"millrace.io/owner": "dag/run"}},
        "spec": {
            "driver": {"ports": [{"name": "ui", "containerPort": 4040}, {"name": "metrics", "containerPort": 8090}]}
        },
        "status": {"applicationState": {"state": state}, **status},
    }


def pod(phase: str = "Running", name: str = "app-driver", created: str = "2026-01-01T00:00:00Z", **status: Any) -> Any:
    metadata = {"name": name, "creationTimestamp": created, "annotations": {"millrace.io/owner": "dag/run"}}
    return {"metadata": metadata, "status": {"phase": phase, "podIP": "10.0.0.7", **status}}


def status(found: dict[str, Any] | None, *drivers: Any) -> Any:
    return spark_resource.status_of("app", "streams", found, list(drivers))


# Names and labels


@pytest.mark.parametrize("name", ["a", "event-windows", "a" * 63, "a-1"])
def test_good_name(name: str) -> None:
    assert require_name(name, "it") == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a_b", "a.b", "-a", "a-", "a" * 64, "ä", "a\n"])
def test_bad_name_is_one_sentence(name: str) -> None:
    with pytest.raises(MillraceError, match=r"application.yaml has the name .*which Kubernetes does not accept: use"):
        require_name(name, "application.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("streaming_pipeline", "streaming_pipeline"),
        ("manual__2026-01-01T00:00:00.5+00:00", "manual__2026-01-01T00-00-00.5-00-00"),
        ("__x__", "x"),
        ("ünï", "n"),
        ("///", ""),
    ],
)
def test_label_value(text: str, value: str) -> None:
    assert label_value(text) == value


def test_long_label_values_stay_apart() -> None:
    values = {label_value("x" * 80 + end) for end in ("a", "b")}
    assert len(values) == 2
    assert {len(value) for value in values} == {63}
    assert len(label_value("x" * 63)) == 63


# SparkApplications


def test_object_is_the_manifest_with_owner_labels_image_and_arguments() -> None:
    manifest = yaml.safe_load((REPOSITORY / "spark-apps" / "event-windows" / "application.yaml").read_text())
    before = yaml.safe_dump(manifest)
    labels = {"dag-id": "d", "try-number": "3"}
    built = spark_resource.build(manifest, namespace="n", owner="d/r", image="i:1", arguments=["--x"], labels=labels)
    assert yaml.safe_dump(manifest) == before
    assert built["metadata"]["namespace"] == "n"
    for holder in (built["metadata"], built["spec"]["driver"]):
        assert holder["annotations"]["millrace.io/owner"] == "d/r"
        assert {"millrace.io/dag-id": "d", "millrace.io/try-number": "3"}.items() <= holder["labels"].items()
        assert holder["labels"]["app.kubernetes.io/part-of"] == "millrace"
    assert built["spec"]["image"] == "i:1"
    assert built["spec"]["arguments"] == [*manifest["spec"]["arguments"], "--x"]
    plain = spark_resource.build(manifest, namespace="n", owner="d/r", image=None)
    assert (plain["spec"]["image"], plain["spec"]["arguments"]) == tuple(
        manifest["spec"][key] for key in ("image", "arguments")
    )


def test_nothing_there_is_new() -> None:
    assert status(None).state is ApplicationState.NEW
    assert status(None, pod("Succeeded")).state is ApplicationState.NEW


@pytest.mark.parametrize("state", STATES)
def test_each_state_of_the_operator_is_that_state(state: ApplicationState) -> None:
    found = status(application(state, executionAttempts=2, submissionAttempts=3))
    assert (found.state, found.owner, found.tries) == (state, "dag/run", 3)
    assert found.metrics_url is None


@pytest.mark.parametrize(
    ("state", "shown"), [("COMPLETED", "SUCCEEDING"), ("FAILED", "FAILING"), ("SUSPENDED", "SUSPENDING")]
)
@pytest.mark.parametrize("phase", ["Pending", "Running", "Unknown"])
def test_no_end_while_a_driver_may_live(state: str, shown: str, phase: str) -> None:
    assert status(application(state), pod(phase)).state == shown
    assert not status(application(state), pod(phase)).state.ended
    for ended in ("Succeeded", "Failed"):
        assert status(application(state), pod(ended)).state == state


def test_state_that_is_not_known_is_no_end() -> None:
    found = status(application("PAUSED"))
    assert (found.state, found.message) == (
        "UNKNOWN",
        "the Spark operator calls its state 'PAUSED', which Millrace does not know",
    )


@pytest.mark.parametrize("said", [{}, {"applicationState": None}, {"applicationState": {"state": ""}}])
def test_object_without_a_state_will_be_started(said: dict[str, Any]) -> None:
    found = status({**application(), "status": said})
    assert found.state is ApplicationState.SUBMITTED
    assert "has not taken it up yet" in found.message
    assert not found.state.ended


def test_deletion_goes_before_what_the_operator_says() -> None:
    found = application("COMPLETED")
    found["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert (status(found).state, status(found).message) == ("FAILING", "it is being deleted")


def test_suspended_by_force_is_a_failure_but_completed_is_not() -> None:
    change = spark_resource.suspension(application(), "did not stop", by_force=True)
    assert change["metadata"]["uid"] == "1"
    assert change["spec"] == {"suspend": True}
    found = application("SUSPENDED")
    found["metadata"]["annotations"] |= change["metadata"]["annotations"]
    assert (status(found).state, status(found).message) == ("FAILED", "did not stop")
    found["status"]["applicationState"]["state"] = "COMPLETED"
    assert status(found).state == "COMPLETED"


def test_address_of_the_driver_is_its_pods_while_it_runs() -> None:
    assert status(application(), pod()).metrics_url == "http://10.0.0.7:8090"
    assert status(application(), pod(podIP="fd00::7")).metrics_url == "http://[fd00::7]:8090"
    assert status(application(), pod("Pending", podIP=None)).metrics_url is None
    assert status(application(), pod("Succeeded")).metrics_url is None
    assert status(application("SUBMITTED"), pod()).metrics_url is None
    without = application()
    without["spec"]["driver"] = {}
    assert status(without, pod()).metrics_url is None


def test_newest_living_driver_counts() -> None:
    old, new = pod(name="old"), pod(name="new", created="2026-01-02T00:00:00Z")
    assert status(application(), new, old).log == "kubectl logs --namespace streams new"
    assert status(application(), pod("Failed", "new", "2026-01-02T00:00:00Z"), old).log.endswith(" old")
    assert status(application(driverInfo={"podName": "gone"})).log.endswith(" gone")


def test_messages_are_one_line_and_not_endless() -> None:
    found = application("SUBMISSION_FAILED")
    found["status"]["applicationState"]["errorMessage"] = "begin\n" + "java.lang.Exception\n\tat x\n" * 500 + "the end"
    message = status(found).message
    assert "\n" not in message
    assert len(message) < 700
    assert message.startswith("begin java")
    assert message.endswith("the end")


def test_times_are_aware() -> None:
    found = status(application(lastSubmissionAttemptTime="2026-01-01T00:00:00Z"))
    assert found.started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert status(application(lastSubmissionAttemptTime=None)).started_at is None


# Jobs


def job(*conditions: str, **status_: Any) -> dict[str, Any]:
    listed = [{"type": each, "status": "True", "message": "Job has reached the limit"} for each in conditions]
    return {"metadata": {"name": "j", "annotations": {}}, "status": {"conditions": listed, **status_}}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": reason, "message": message}
    return {"containerStatuses": [{"name": "j", "state": {"terminated": terminated}}]}


def job_status(found: dict[str, Any] | None, *own: Any) -> Any:
    return job_resource.status_of("j", "streams", found, list(own))


@pytest.mark.parametrize(
    ("wrote", "reason"),
    [
        (
            'Exception in thread "main" io.fabric8.kubernetes.client.KubernetesClientException: Failure executing. '
            'Message: pods "app-driver" is forbidden: violates PodSecurity "restricted:latest". Received status: '
            "Status(apiVersion=v1)",
            'pods "app-driver" is forbidden: violates PodSecurity "restricted:latest"',
        ),
        (
            'Exception in thread "main" org.apache.spark.SparkException: External scheduler cannot be instantiated',
            "org.apache.spark.SparkException: External scheduler cannot be instantiated",
        ),
    ],
)
def test_reason_of_a_failed_submission_is_found_in_what_it_wrote(wrote: str, reason: str) -> None:
    found = application("SUBMISSION_FAILED")
    lines = ["WARNING: using incubator modules"] * 100 + [wrote] + ["\tat org.apache.spark.X"] * 500
    found["status"]["applicationState"]["errorMessage"] = "\n".join(lines)
    assert status(found).message == reason


def test_states_of_a_job() -> None:
    assert job_status(None).state is JobState.NEW
    assert job_status(job()).state is JobState.RUNNING
    assert job_status(job("SuccessCriteriaMet")).state is JobState.RUNNING  # its pod may still be ending
    assert job_status(job("Complete")).state is JobState.SUCCEEDED
    assert job_status(job("FailureTarget", "Failed")).state is JobState.FAILED
    assert job_status(None, pod("Succeeded")).state is JobState.NEW
    assert job_status(None, pod("Running")).owner == "dag/run"


@pytest.mark.parametrize(
    ("end", "said"),
    [
        (ended(2, "first\nthe reason\n"), "exit code 2: the reason"),
        (ended(137, reason="OOMKilled"), "OOMKilled, exit code 137"),
        (
            {"reason": "Evicted", "message": "The node was low on resource: memory."},
            "Evicted: The node was low on resource",
        ),
        ({"reason": "DeadlineExceeded"}, "DeadlineExceeded"),
        ({}, "it does not say why"),
    ],
)
def test_reason_of_a_failure_comes_from_the_pod(end: dict[str, Any], said: str) -> None:
    assert job_status(job("Failed"), pod("Failed", **end)).message.startswith(said)


@pytest.mark.parametrize("text", ["", "no JSON", "[1]", '{"sent": 5', None])
def test_termination_message_that_is_no_summary_is_no_result(text: str | None) -> None:
    assert job_status(job("Complete"), pod("Succeeded", **ended(0, text or ""))).result is None
    assert job_status(job("Complete")).result is None


def test_summary_is_the_termination_message() -> None:
    assert job_status(job("Complete"), pod("Succeeded", **ended(0, '{"sent": 5}\n'))).result == {"sent": 5}


def test_job_has_no_option_that_its_module_does_not_take() -> None:
    built = job_resource.build(JobSpec("j", "m", ["a"]), namespace="n", owner="o", image="i")
    (container,) = built["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["a"]
    assert "ports" not in container
    assert (built["spec"]["backoffLimit"], built["spec"]["template"]["spec"]["restartPolicy"]) == (0, "Never")


# Pods


def test_what_keeps_a_pod_from_running_is_named() -> None:
    def waiting(reason: str, key: str = "containerStatuses") -> dict[str, Any]:
        return {key: [{"name": "c", "state": {"waiting": {"reason": reason, "message": "m"}}}]}

    assert pods.problem(pod("Pending", **waiting("ErrImagePull"))) == "pod app-driver waits (ErrImagePull: m)"
    assert "CrashLoop" in pods.problem(pod("Pending", **waiting("CrashLoop", "initContainerStatuses")))
    assert pods.problem(pod("Pending", **waiting("ContainerCreating"))) == ""
    assert pods.problem(pod()) == ""
    going = pod()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pods.problem(going) == "pod app-driver is being deleted"


# Settings


def test_settings_of_the_target() -> None:
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    settings = load_settings({})
    assert (settings.namespace, settings.spark_image) == ("streams", None)
    assert settings.ingest_image == f"millrace/ingest:{version}"
    own = load_settings({"MILLRACE_NAMESPACE": "n", "MILLRACE_SPARK_IMAGE": "s", "MILLRACE_INGEST_IMAGE": "i"})
    assert (own.namespace, own.spark_image, own.ingest_image) == ("n", "s", "i")
