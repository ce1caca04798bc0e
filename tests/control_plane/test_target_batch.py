"""A batch application on a real API server: run to its end, found again by a retry, and judged by how it ended."""

import pytest
import yaml
from airflow.sdk.exceptions import AirflowException, TaskDeferred

from embedded.paths import REPOSITORY
from millrace.operators.batch import RunApplicationOperator
from millrace.targets.base import Target
from millrace.triggers.batch import ApplicationCompletedTrigger
from tests.control_plane.conftest import OWNER, context
from tests.control_plane.pods import Kubelet
from tests.control_plane.spark import Operator
from tests.control_plane.waiting import made_again, waiting
from tests.kubernetes.plane import ControlPlane

NAME = "hello-spark"
MANIFEST = REPOSITORY / "spark-apps" / NAME / "application.yaml"


@pytest.fixture
def batch(plane: ControlPlane, place: str) -> Operator:
    """The Spark operator's part in the batch application."""
    return Operator(plane, place, NAME)


def task() -> RunApplicationOperator:
    return RunApplicationOperator(
        task_id="run", manifest=str(MANIFEST), application=NAME, arguments=["--set", "parameters.limit=50"]
    )


def execute(try_number: int = 1) -> ApplicationCompletedTrigger:
    """Run the task as a worker does; return the trigger that it waits with."""
    run = task()
    with pytest.raises(TaskDeferred) as deferred:
        run.execute.__wrapped__(run, context(try_number))  # type: ignore[attr-defined]
    trigger = deferred.value.trigger
    assert isinstance(trigger, ApplicationCompletedTrigger)
    trigger.poll_interval = 0.05
    return trigger


def test_it_is_made_as_its_manifest_says_and_waited_for_until_it_has_completed(
    target: Target, batch: Operator, kubelet: Kubelet
) -> None:
    trigger = execute()
    found, written = batch.object(), yaml.safe_load(MANIFEST.read_text())
    assert found is not None
    assert found["metadata"]["annotations"]["millrace.io/owner"] == OWNER
    assert found["spec"]["restartPolicy"]["type"] == "Never"
    assert found["spec"]["arguments"] == [*written["spec"]["arguments"], "--set", "parameters.limit=50"]
    with waiting(trigger) as first:
        first.goes_on()
        pod = kubelet.driver(NAME, batch.object())
        kubelet.runs(pod)
        batch.says("RUNNING")
        first.goes_on()
        # The triggerer ends; another one goes on. A retry of the task finds the same application.
        kept = first.killed()
    before = batch.object()
    execute(try_number=2)
    assert batch.object() == before
    with waiting(made_again(kept)) as second:
        batch.says("SUCCEEDING")
        second.goes_on()
        kubelet.ends(pod, code=0)
        batch.says("COMPLETED")
        event = second.event()
    assert event["status"] == "success"
    assert task().on_event(context(), event)["tries"] == 1


def test_a_failure_is_told_and_a_retry_runs_it_again(target: Target, batch: Operator, kubelet: Kubelet) -> None:
    trigger, old = execute(), batch.uid()
    pod = kubelet.driver(NAME, batch.object())
    kubelet.runs(pod)
    kubelet.ends(pod, code=1)
    batch.says("FAILED", "driver container failed with ExitCode: 1, Reason: Error")
    with waiting(trigger) as first:
        event = first.event()
    with pytest.raises(AirflowException, match=r"hello-spark has ended \(FAILED\): driver container failed"):
        task().on_event(context(), event)
    execute(try_number=2)
    assert batch.uid() not in (old, None)
