"""The target `kubernetes` runs jobs: Kubernetes' own Job controller makes the pods, the test says how they fare."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.operators.stream import StartJobOperator
from millrace.targets.base import JobSpec, JobState, Target
from millrace.triggers.stream import CaughtUpTrigger
from tests.charts.render import by_name, render_chart
from tests.control_plane.conftest import OWNER, context, eventually
from tests.control_plane.pods import Kubelet
from tests.control_plane.spark import Driver
from tests.control_plane.waiting import waiting
from tests.kubernetes.plane import ControlPlane

NAME = "replay"
JOB = JobSpec(
    NAME,
    "ingest",
    arguments=("replay", "--days=1"),
    env={"EXTRA": "1"},
    status_file_argument="--status-file",
    metrics_port_argument="--metrics-port",
)
RESULT = {
    "state": "complete",
    "last_event_time": "2013-02-01T09:09:00Z",
    "end_offsets": {"0": 10, "1": 20},
    "heartbeat_time": "2013-02-01T09:19:00Z",
}


@pytest.fixture
def job(plane: ControlPlane, place: str) -> Callable[[], dict[str, Any] | None]:
    """Return the Job as it is in the cluster."""

    def get() -> dict[str, Any] | None:
        found = plane.kubectl("get", "job", NAME, f"--namespace={place}", "--ignore-not-found", "--output=json").stdout
        return json.loads(found) if found else None

    return get


@pytest.fixture
def pod(plane: ControlPlane, place: str, kubelet: Kubelet) -> Callable[[], str]:
    """Wait for the Job's pod, and put it on the node; return its name."""

    def get() -> str:
        def names() -> list[str]:
            selector = f"--selector=batch.kubernetes.io/job-name={NAME}"
            found = plane.get("pods", f"--namespace={place}", selector)["items"]
            return [each["metadata"]["name"] for each in found if not each["spec"].get("nodeName")]

        (name,) = eventually(names)
        kubelet.assign(name)
        return name

    return get


def state(target: Target, wanted: JobState) -> Any:
    """Wait until the job is in a state; return its status."""
    return eventually(lambda: (found := target.job_status(NAME)).state is wanted and found)


def test_job_runs_to_its_end_and_its_summary_comes_back(
    target: Target, job: Callable[..., Any], pod: Callable[[], str], kubelet: Kubelet, place: str
) -> None:
    assert target.job_status(NAME).state is JobState.NEW
    task = StartJobOperator(task_id="start_generator", job=JOB)
    assert task.execute.__wrapped__(task, context())["state"] == "RUNNING"  # type: ignore[attr-defined]
    name = pod()
    kubelet.runs(name)
    status = target.job_status(NAME)
    assert (status.state, status.owner, status.tries, status.result) == (JobState.RUNNING, OWNER, 1, None)
    kubelet.writes(name, "progress\n")
    assert target.job_log(NAME) == ("progress\n", 9)
    kubelet.ends(name, message=json.dumps(RESULT) + "\n")
    status = state(target, JobState.SUCCEEDED)
    assert status.result == RESULT
    assert status.started_at is not None
    assert status.log == f"kubectl logs --namespace {place} job/{NAME}"
    assert target.stop_job(NAME, 0.0, OWNER).state is JobState.SUCCEEDED


def test_pod_gets_what_a_feed_needs_and_no_right(
    target: Target, job: Callable[..., Any], pod: Callable[[], str], plane: ControlPlane, place: str
) -> None:
    target.start_job(JOB, OWNER, {"task-id": "start_generator", "run-id": "manual__2026-01-01T00:00:00+00:00"})
    found = plane.get("pod", pod(), f"--namespace={place}")
    assert found["metadata"]["labels"]["millrace.io/run-id"] == "manual__2026-01-01T00-00-00-00-00"
    assert found["metadata"]["annotations"]["millrace.io/owner"] == OWNER
    spec, (container,) = found["spec"], found["spec"]["containers"]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("ingest", False)
    assert container["image"] == "millrace/ingest:0.1.0"
    assert container["command"] == ["python", "-m", "ingest"]
    assert container["args"] == [
        *("replay", "--days=1"),
        *("--status-file", "/dev/termination-log"),
        *("--metrics-port", "8090"),
    ]
    assert container["ports"] == [{"name": "metrics", "containerPort": 8090, "protocol": "TCP"}]
    assert container["envFrom"] == [{"configMapRef": {"name": "millrace"}}]
    variables = {each["name"]: each for each in container["env"]}
    assert variables["EXTRA"]["value"] == "1"
    assert variables["KAFKA_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"] == "kafka-user-ingest"
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "kafka-ca"]
    settings = by_name([each for each in render_chart() if each["metadata"].get("namespace") == "streams"], "ConfigMap")
    assert settings["millrace"]["data"]["KAFKA_SSL_CA_LOCATION"] == f"{mount['mountPath']}/ca.crt"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            {"code": 2, "message": '{"level":"INFO"}\ningest replay: no such day\n'},
            "exit code 2: ingest replay: no such day",
        ),
        ({"code": 137, "reason": "OOMKilled"}, "OOMKilled, exit code 137"),
    ],
)
def test_failure_says_why(
    target: Target, pod: Callable[[], str], kubelet: Kubelet, end: dict[str, Any], message: str
) -> None:
    target.start_job(JOB, OWNER)
    kubelet.ends(pod(), **end)
    assert state(target, JobState.FAILED).message == message


def test_failure_whose_pod_is_gone_says_what_the_job_says(
    target: Target, pod: Callable[[], str], kubelet: Kubelet
) -> None:
    target.start_job(JOB, OWNER)
    name = pod()
    kubelet.ends(name, code=1)
    state(target, JobState.FAILED)
    kubelet.is_gone(name)
    status = target.job_status(NAME)
    assert (status.state, status.message) == (JobState.FAILED, "Job has reached the specified backoff limit")
    with pytest.raises(MillraceError, match=f"There is no log of {NAME}: it has no pod in namespace"):
        target.job_log(NAME)


def test_pod_that_can_not_start_is_named_while_it_is_waited_for(
    target: Target, pod: Callable[[], str], kubelet: Kubelet
) -> None:
    target.start_job(JOB, OWNER)
    name = pod()
    kubelet.waits(name, "CreateContainerConfigError", 'configmap "millrace" not found')
    status = target.job_status(NAME)
    assert status.state is JobState.RUNNING
    assert status.message == f'pod {name} waits (CreateContainerConfigError: configmap "millrace" not found)'


def test_retry_finds_the_job_running_and_another_run_is_refused(
    target: Target, job: Callable[..., Any], pod: Callable[[], str]
) -> None:
    target.start_job(JOB, OWNER)
    pod()
    before = job()["metadata"]["uid"]
    target.start_job(JOB, OWNER)
    with pytest.raises(OwnedByAnotherError, match=f"{NAME} is already run by {OWNER}"):
        target.start_job(JOB, "dag/other")
    with pytest.raises(OwnedByAnotherError, match=f"{NAME} belongs to {OWNER}, so it was left running"):
        target.stop_job(NAME, 0.0, "dag/other")
    assert job()["metadata"]["uid"] == before


@pytest.mark.parametrize("code", [0, 1])
def test_ended_job_makes_way_for_a_new_one(
    target: Target, job: Callable[..., Any], pod: Callable[[], str], kubelet: Kubelet, code: int
) -> None:
    target.start_job(JOB, OWNER)
    kubelet.ends(pod(), code=code)
    state(target, JobState.FAILED if code else JobState.SUCCEEDED)
    before = job()["metadata"]["uid"]
    assert target.start_job(JOB, "dag/other").owner == "dag/other"
    assert job()["metadata"]["uid"] != before
    assert target.job_status(NAME).result is None


def test_stop_waits_until_the_pod_is_gone(
    target: Target, job: Callable[..., Any], pod: Callable[[], str], kubelet: Kubelet
) -> None:
    target.start_job(JOB, OWNER)
    name = pod()
    kubelet.runs(name)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(target.stop_job, NAME, 60.0, OWNER)
        eventually(lambda: job()["metadata"].get("deletionTimestamp"))
        assert not done.done()
        assert target.job_status(NAME).message == "it is being deleted"
        kubelet.is_gone(name)
        status = done.result(60)
    assert (status.state, status.message) == (JobState.STOPPED, "stopped as asked, and its Job deleted")
    assert job() is None
    assert target.stop_job(NAME, 0.0, OWNER).state is JobState.NEW


def test_no_second_job_beside_a_pod_whose_job_is_gone(
    target: Target, job: Callable[..., Any], pod: Callable[[], str], kubelet: Kubelet, plane: ControlPlane, place: str
) -> None:
    target.start_job(JOB, OWNER)
    name = pod()
    kubelet.runs(name)
    plane.kubectl("delete", "job", NAME, f"--namespace={place}", "--cascade=orphan")
    assert target.job_status(NAME).message == f"there is no Job any more, but its pod {name} still runs"
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(target.start_job, JOB, OWNER)
        assert not start.done()
        kubelet.is_gone(name)
        assert start.result(60).state is JobState.RUNNING


def test_stream_is_caught_up_with_what_the_summary_says(
    target: Target, pod: Callable[[], str], kubelet: Kubelet, started: str, driver: Driver
) -> None:
    driver.listens()
    driver.reports(sources=[{"endOffset": {"events": {"0": 10, "1": 19}}}])
    target.start_job(JOB, OWNER)
    windows = {"window_seconds": 300, "slide_seconds": 60, "run_id": "run", "poll_interval": 0.05}
    names = {"application": "event-windows", "query": "event-windows", "job": NAME, "topic": "events"}
    trigger = CaughtUpTrigger(**names, **windows, owner=OWNER)  # type: ignore[arg-type]
    with waiting(trigger) as wait:
        name = pod()
        kubelet.finds_no_node(name, "no room")
        wait.goes_on()
        assert trigger.waiting_for() == f"{NAME} still sends (pod {name} finds no node (no room))"
        kubelet.ends(name, message=json.dumps(RESULT))
        state(target, JobState.SUCCEEDED)
        wait.goes_on()
        assert trigger.waiting_for() == "event-windows has 1 of 30 records before it"
        driver.reports(batchId=2)
        assert wait.event()["status"] == "success"


def test_job_that_somebody_deletes_is_an_error(
    target: Target, started: str, pod: Callable[[], str], plane: ControlPlane, place: str
) -> None:
    target.start_job(JOB, OWNER)
    windows = {"window_seconds": 300, "slide_seconds": 60, "run_id": "run", "poll_interval": 0.05}
    names = {"application": "event-windows", "query": "event-windows", "job": NAME, "topic": "events"}
    with waiting(CaughtUpTrigger(**names, **windows, owner=OWNER)) as wait:  # type: ignore[arg-type]
        wait.goes_on()
        plane.kubectl("delete", "job", NAME, f"--namespace={place}")
        assert wait.event()["message"] == f"{NAME} is not there any more: somebody deleted it. Start it again."
