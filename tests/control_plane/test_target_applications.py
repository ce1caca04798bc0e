"""The target `kubernetes` starts applications on a real API server, and reads what their status says."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from millrace import storage
from millrace.errors import MillraceError, OwnedByAnotherError, TemporaryError
from millrace.operators.stream import StartApplicationOperator
from millrace.targets import get_target, kubernetes
from millrace.targets.base import ApplicationState, Target
from millrace.triggers.stream import ApplicationReadyTrigger
from tests.control_plane.conftest import OWNER, context, count_looks, eventually
from tests.control_plane.pods import Kubelet
from tests.control_plane.spark import NAME, Driver, Operator
from tests.control_plane.waiting import made_again, waiting
from tests.kubernetes.plane import ControlPlane


def ready(**changes: Any) -> ApplicationReadyTrigger:
    given = {"application": NAME, "query": NAME, "owner": OWNER, "first_try": 1, "job": "replay"}
    return ApplicationReadyTrigger(**{**given, "poll_interval": 0.05, **changes})


def start_task(manifest: Path) -> StartApplicationOperator:
    return StartApplicationOperator(task_id="start_streaming", manifest=str(manifest), application=NAME, query=NAME)


def execute(task: StartApplicationOperator, try_number: int = 1) -> ApplicationReadyTrigger:
    """Run the task as a worker does; return the trigger that it waits with."""
    with pytest.raises(TaskDeferred) as deferred:
        task.execute.__wrapped__(task, context(try_number))  # type: ignore[attr-defined]
    assert isinstance(deferred.value.trigger, ApplicationReadyTrigger)
    return deferred.value.trigger


def delete(plane: ControlPlane, place: str) -> None:
    """Delete the application as `kubectl delete --cascade=foreground` does, and don't wait for its end."""
    plane.kubectl("delete", "sparkapplication", NAME, f"--namespace={place}", "--cascade=foreground", "--wait=false")


# Start


def test_start_makes_the_manifests_application_with_its_owner(
    target: Target, place: str, operator: Operator, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_SPARK_IMAGE", "registry.example/spark:1")
    trigger = execute(start_task(manifest), try_number=2)
    assert (trigger.owner, trigger.first_try) == (OWNER, 1)
    found, written = operator.object(), yaml.safe_load(manifest.read_text())
    assert found is not None
    assert found["metadata"]["annotations"]["millrace.io/owner"] == OWNER
    labels = {"dag-id": "dag", "run-id": "run", "task-id": "start_streaming", "try-number": "2"}
    assert {f"millrace.io/{key}": value for key, value in labels.items()}.items() <= found["metadata"]["labels"].items()
    assert found["spec"]["driver"]["annotations"] == {"millrace.io/owner": OWNER}
    assert found["spec"]["image"] == "registry.example/spark:1"
    assert found["spec"]["driver"]["ports"] == written["spec"]["driver"]["ports"]
    assert found["spec"]["sparkConf"] == written["spec"]["sparkConf"]
    (manager,) = {entry["manager"] for entry in found["metadata"]["managedFields"]}
    assert manager == "millrace"
    status = target.application_status(NAME)
    assert (status.state, status.owner, status.tries) == ("SUBMITTED", OWNER, 0)
    assert status.message == "the Spark operator has not taken it up yet: see that it runs"
    assert status.log == f"kubectl logs --namespace {place} {NAME}-driver"


def test_arguments_are_added_to_the_manifests_own(target: Target, manifest: Path, operator: Operator) -> None:
    target.start_application(manifest, OWNER, ["--set", "trigger=1 second"])
    found = operator.object()
    assert found is not None
    assert found["spec"]["arguments"][-3:] == [
        "local:///opt/millrace/spark-apps/event-windows/settings.yaml",
        "--set",
        "trigger=1 second",
    ]


def test_retry_finds_the_application_running(target: Target, manifest: Path, operator: Operator, started: str) -> None:
    before = operator.object()
    trigger = execute(start_task(manifest), try_number=2)
    assert trigger.first_try == 1
    assert operator.object() == before


def test_other_owners_application_is_left_alone(
    target: Target, manifest: Path, operator: Operator, started: str
) -> None:
    before = operator.object()
    with pytest.raises(OwnedByAnotherError, match=f"{NAME} is already run by dag/run: wait for that run to end"):
        target.start_application(manifest, "dag/other")
    assert operator.object() == before


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_ended_application_makes_way_for_a_new_one_of_any_owner(
    target: Target, manifest: Path, operator: Operator, kubelet: Kubelet, started: str, plane: ControlPlane, state: str
) -> None:
    old = operator.uid()
    kubelet.ends(started, code=0 if state == "COMPLETED" else 1)
    operator.says(state)
    storage.write_text("", "control", NAME, "stop")
    assert target.start_application(manifest, "dag/other").owner == "dag/other"
    assert operator.uid() not in (old, None)
    assert not storage.exists("control", NAME, "stop")


def test_start_waits_for_one_that_is_being_deleted_until_its_driver_is_gone(
    target: Target, manifest: Path, operator: Operator, kubelet: Kubelet, started: str, plane: ControlPlane, place: str
) -> None:
    old = operator.uid()
    delete(plane, place)
    looks = count_looks(target)
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(target.start_application, manifest, "dag/other")
        eventually(lambda: looks() >= 3)
        assert not start.done()
        assert operator.uid() == old
        kubelet.is_gone(started)  # A pod that has a node goes only when its node says so.
        assert start.result(60).owner == "dag/other"
    assert operator.uid() not in (old, None)


def test_no_second_driver_beside_one_whose_application_is_gone(
    target: Target, manifest: Path, operator: Operator, kubelet: Kubelet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "END_TIMEOUT", 2.0)
    pod = kubelet.driver(NAME)
    kubelet.runs(pod)
    assert target.application_status(NAME).state == "FAILING"
    with pytest.raises(MillraceError, match=f"can't be started while .* is there .pod {pod} in namespace streams-"):
        target.start_application(manifest, OWNER)
    assert operator.object() is None
    kubelet.is_gone(pod)
    assert target.start_application(manifest, OWNER).state == "SUBMITTED"


def test_pod_that_has_ended_does_not_keep_a_new_driver_away(target: Target, manifest: Path, kubelet: Kubelet) -> None:
    kubelet.ends(kubelet.driver(NAME), code=1)
    assert target.application_status(NAME).state is ApplicationState.NEW
    assert target.start_application(manifest, OWNER).state == "SUBMITTED"


@pytest.mark.parametrize("owners", [("dag/a", "dag/b"), ("dag/a", "dag/a")])
def test_of_two_starters_at_once_only_one_starts(
    target: Target, manifest: Path, operator: Operator, owners: tuple[str, str], plane: ControlPlane, place: str
) -> None:
    for round_ in range(4):
        at_once = threading.Barrier(2)

        def start(owner: str, at_once: threading.Barrier = at_once) -> str:
            at_once.wait(30)
            try:
                return str(get_target().start_application(manifest, owner).owner)
            except OwnedByAnotherError:
                return "refused"

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(start, owners))
        found = operator.object()
        assert found is not None
        winner = found["metadata"]["annotations"]["millrace.io/owner"]
        assert winner in owners
        assert sorted(results) == sorted([winner, winner] if len(set(owners)) == 1 else [winner, "refused"])
        # In the next round both find one that has ended, so both want to remove it first.
        operator.says("FAILED", executions=round_ + 1)


def test_application_that_was_asked_to_stop_is_stopped_before_it_starts_again(
    target: Target, manifest: Path, operator: Operator, kubelet: Kubelet, started: str
) -> None:
    old = operator.uid()
    storage.write_text("", "control", NAME, "stop")
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(target.start_application, manifest, OWNER)
        looks = count_looks(target)
        eventually(lambda: looks() >= 3)
        assert not start.done()
        kubelet.ends(started)
        operator.says("COMPLETED")
        start.result(60)
    assert operator.uid() not in (old, None)
    assert not storage.exists("control", NAME, "stop")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"metadata": {"name": "Event_Windows"}},
            "has the name 'Event_Windows', which Kubernetes does not accept: use",
        ),
        ({"spec": {"arguements": []}}, 'create SparkApplication event-windows .*unknown field "spec.arguements"'),
        ({"spec": {"sparkVersion": 4}}, "spec.sparkVersion: Invalid value: .*: correct what it names"),
        ({"spec": None}, "has no `spec`: correct the manifest"),
    ],
)
def test_bad_manifest_is_one_sentence_and_makes_nothing(
    target: Target, manifest: Path, operator: Operator, change: dict[str, Any], sentence: str
) -> None:
    document = yaml.safe_load(manifest.read_text())
    for key, value in change.items():
        document[key] = {**document[key], **value} if value else value
    manifest.write_text(yaml.safe_dump(document))
    with pytest.raises(MillraceError, match=sentence):
        target.start_application(manifest, OWNER)
    assert operator.object() is None


# The wait for the first batch, in every order of states that matters


def test_waits_from_the_creation_to_the_first_batch(
    target: Target, manifest: Path, operator: Operator, kubelet: Kubelet, driver: Driver, place: str
) -> None:
    task = start_task(manifest)
    trigger = execute(task)
    with waiting(trigger) as wait:
        wait.goes_on()
        operator.says("SUBMITTED")
        wait.goes_on()
        pod = kubelet.driver(NAME, operator.object())
        kubelet.finds_no_node(pod, "0/1 nodes are available: 1 Insufficient memory.")
        wait.goes_on()
        assert "finds no node (0/1 nodes are available: 1 Insufficient memory.)" in trigger.waiting_for()
        kubelet.runs(pod)
        operator.says("RUNNING")
        wait.goes_on()
        driver.listens()
        wait.goes_on()
        driver.reports()
        event = wait.event()
    assert event["status"] == "success"
    done = task.on_event(context(), event)
    assert done == {
        "name": NAME,
        "tries": 1,
        "log": f"kubectl logs --namespace {place} {pod}",
        "metrics_url": f"http://127.0.0.1:{driver.port}",
    }
    assert target.progress(NAME, last=1)["queries"][0]["progress"][0]["batchId"] == 1


def run_again(operator: Operator, kubelet: Kubelet, old: str | None, executions: int) -> str:
    """The operator takes the old driver's pod away, and makes a new driver, which runs."""
    operator.says("PENDING_RERUN", executions=executions - 1)
    if old:
        kubelet.is_gone(old)
    operator.says("SUBMITTED", executions=executions, submissions=executions)
    pod = kubelet.driver(NAME, operator.object())
    kubelet.runs(pod)
    operator.says("RUNNING", executions=executions, submissions=executions)
    return pod


@pytest.mark.parametrize("between", ["FAILING", "UNKNOWN", "INVALIDATING", "SUCCEEDING", "A_STATE_OF_TOMORROW"])
def test_driver_that_is_started_again_is_waited_for(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, driver: Driver, between: str
) -> None:
    with waiting(ready()) as wait:
        wait.goes_on()
        kubelet.ends(started, code=1)
        operator.says(between, "driver container failed with ExitCode: 1")
        wait.goes_on()
        run_again(operator, kubelet, started, executions=2)
        wait.goes_on()
        driver.listens()
        driver.reports()
        assert wait.event()["status"] == "success"
    assert target.application_status(NAME).tries == 2


def test_three_drivers_that_end_before_a_first_batch_are_enough(
    target: Target, operator: Operator, kubelet: Kubelet, started: str
) -> None:
    pod: str | None = started
    with waiting(ready()) as wait:
        for executions in (2, 3):
            pod = run_again(operator, kubelet, pod, executions)
            wait.goes_on()
        operator.says("FAILING", "driver container failed with ExitCode: 137, Reason: OOMKilled", executions=4)
        event = wait.event()
    assert event["status"] == "error"
    assert (
        "failed 3 times before its first batch: driver container failed with ExitCode: 137, Reason: OOMKilled"
        in (event["message"])
    )


def test_submission_that_fails_is_tried_again_by_the_operator_and_then_an_error(
    target: Target, manifest: Path, operator: Operator
) -> None:
    task = start_task(manifest)
    with waiting(execute(task)) as wait:
        for submissions in (1, 2):
            operator.says("SUBMISSION_FAILED", "no such image", executions=0, submissions=submissions)
            wait.goes_on()
            assert target.application_status(NAME).tries == submissions
        operator.says("FAILED", "failed to submit spark application: no such image", executions=0, submissions=2)
        event = wait.event()
    assert event == {
        "status": "error",
        "message": f"{NAME} has ended (FAILED): failed to submit spark application: no such image. See its log.",
    }
    with pytest.raises(AirflowException, match="has ended"):
        task.on_event(context(), event)


@pytest.mark.parametrize(
    ("state", "message"), [("COMPLETED", "it says no more"), ("FAILED", "exit 2"), ("SUSPENDED", "spec.suspend is set")]
)
def test_application_that_ends_is_an_error_once_its_driver_is_gone(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, state: str, message: str
) -> None:
    with waiting(ready()) as wait:
        operator.says(state, "exit 2" if state == "FAILED" else "")
        wait.goes_on()  # The operator may say so while the driver still ends.
        kubelet.is_gone(started)
        event = wait.event()
    assert event["message"] == f"{NAME} has ended ({state}): {message}. See its log."


def test_suspended_application_that_is_resumed_is_waited_for(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, driver: Driver
) -> None:
    with waiting(ready()) as wait:
        operator.says("SUSPENDING")
        wait.goes_on()
        operator.says("SUSPENDED")
        wait.goes_on()  # its driver still ends
        operator.says("RESUMING")
        kubelet.is_gone(started)
        wait.goes_on()
        run_again(operator, kubelet, None, executions=2)
        driver.listens()
        driver.reports()
        assert wait.event()["status"] == "success"


def test_application_that_somebody_deletes_is_an_error_when_it_is_gone(
    target: Target, operator: Operator, kubelet: Kubelet, started: str, plane: ControlPlane, place: str
) -> None:
    with waiting(ready()) as wait:
        wait.goes_on()
        delete(plane, place)
        wait.goes_on()
        status = target.application_status(NAME)
        assert (status.state, status.message) == ("FAILING", "it is being deleted")
        kubelet.is_gone(started)
        event = wait.event()
    assert event["message"] == f"{NAME} is not there any more: somebody deleted it. Start it again."


def test_application_that_another_run_took_over_is_an_error(
    target: Target, manifest: Path, operator: Operator, kubelet: Kubelet, started: str
) -> None:
    kubelet.is_gone(started)
    operator.says("FAILED")
    target.start_application(manifest, "dag/other")
    with waiting(ready()) as wait:
        assert wait.event()["message"] == f"{NAME} is run by dag/other, not by this run."


def test_deadline_says_what_the_cluster_says(
    target: Target, manifest: Path, operator: Operator, kubelet: Kubelet
) -> None:
    target.start_application(manifest, OWNER)
    operator.says("SUBMITTED")
    kubelet.waits(
        kubelet.driver(NAME, operator.object()), "ImagePullBackOff", 'Back-off pulling image "millrace/spark"'
    )
    with waiting(ready(deadline=1.0)) as wait:
        message = wait.event()["message"]
    assert message == (
        f"Gave up after the time allowed: {NAME} has not reported a first batch of {NAME} and is SUBMITTED (pod "
        f'{NAME}-driver waits (ImagePullBackOff: Back-off pulling image "millrace/spark")); see its driver\'s log.'
    )


# Outages in mid-wait


def test_wait_outlasts_an_api_server_that_is_restarted(
    target: Target, plane: ControlPlane, started: str, driver: Driver
) -> None:
    with waiting(ready()) as wait:
        wait.goes_on()
        plane.stop_api()
        try:
            wait.goes_on(polls=1)
        finally:
            plane.start_api()
        wait.goes_on()
        driver.listens()
        driver.reports()
        assert wait.event()["status"] == "success"


def impatient(self: TemporaryError, message: str, patience: float = 0.0) -> None:
    MillraceError.__init__(self, message)
    self.patience = 1.0


def test_wait_ends_when_nobody_answers_for_too_long(
    target: Target, plane: ControlPlane, started: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TemporaryError, "__init__", impatient)
    with waiting(ready()) as wait:
        wait.goes_on()
        plane.stop_api()
        try:
            event = wait.event()
        finally:
            plane.start_api()
    assert event["status"] == "error"
    assert f"The Kubernetes API at {plane.url} does not answer (" in event["message"]
    assert "Connection refused): check that it runs and can be reached" in event["message"]


def test_wait_goes_on_in_another_triggerer(target: Target, started: str, driver: Driver) -> None:
    with waiting(ready(deadline=4e9)) as wait:
        wait.goes_on()
        kept = wait.killed()
    with waiting(made_again(kept)) as wait:
        wait.goes_on()
        driver.listens()
        driver.reports()
        assert wait.event()["status"] == "success"


def test_task_that_is_killed_before_it_waits_leaves_an_application_with_an_owner(
    target: Target, manifest: Path, operator: Operator, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The worker dies between the creation and the wait: the retry finds the application, and so does the stop."""

    def die(*_: Any, **__: Any) -> None:
        raise SystemExit

    task = start_task(manifest)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(StartApplicationOperator, "_wait", die)
        task.execute.__wrapped__(task, context())  # type: ignore[attr-defined]
    task.on_kill()
    assert f"If it has started {NAME}, that goes on and belongs to this run" in capsys.readouterr().out
    before = operator.object()
    assert before is not None
    assert before["metadata"]["annotations"]["millrace.io/owner"] == OWNER
    execute(task, try_number=2)
    assert operator.object() == before


# Logs


def test_drivers_log_is_read_from_an_offset(target: Target, kubelet: Kubelet, started: str) -> None:
    kubelet.writes(started, "first\n")
    text, offset = target.driver_log(NAME)
    assert (text, offset) == ("first\n", 6)
    kubelet.writes(started, "second\n")
    assert target.driver_log(NAME, offset) == ("second\n", 13)
    assert target.driver_log(NAME, 13) == ("", 13)
    kubelet.begins_log_anew(started)
    kubelet.writes(started, "new\n")
    assert target.driver_log(NAME, 13) == ("new\n", 4)


def test_of_a_large_log_the_end_is_read(target: Target, kubelet: Kubelet, started: str) -> None:
    lines = 30_000
    kubelet.writes(started, ("x" * 99 + "\n") * lines)
    found, offset = target.driver_log(NAME)
    assert offset == 100 * lines
    assert len(found) < 1.2 * 2**20
    assert found.startswith("[")
    assert "earlier bytes are left out]\n" in found[:60]
    assert found.endswith("x\n")


def test_log_that_can_not_be_read_is_one_sentence(target: Target, kubelet: Kubelet, started: str) -> None:
    with pytest.raises(MillraceError, match=f"Pod {started} in namespace"):
        target.driver_log(NAME)  # its node has no log of it
    kubelet.is_gone(started)
    with pytest.raises(MillraceError, match=f"There is no log of {NAME}: it has no pod"):
        target.driver_log(NAME)


def test_failed_task_shows_the_drivers_last_lines(
    target: Target, manifest: Path, kubelet: Kubelet, started: str, capsys: Any
) -> None:
    kubelet.writes(started, "".join(f"line {number}\n" for number in range(100)))
    with pytest.raises(AirflowException, match="why"):
        start_task(manifest).on_event(context(), {"status": "error", "message": "why"})
    shown = capsys.readouterr().out
    assert "line 99" in shown
    assert "line 59\n" not in shown
