"""The main job on the cluster, triggered over Airflow's API: tasks and stream in pods, and the answer is right."""

import pytest

from tests.cluster.plugin import HEALTHY
from tests.cluster.runs import APPLICATION, DAG_ID, DEFERRED, TASKS


@pytest.fixture
def run(finished_run):
    return finished_run.run


def test_the_run_succeeds(run):
    assert run.state == "success", run.describe()
    assert {name: task["state"] for name, task in run.tasks.items()} == dict.fromkeys(TASKS, "success")


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_a_pod_of_its_own(task, run):
    pods = {change.name for change in run.workers.changes if change.thing["metadata"]["labels"]["task_id"] == task}
    assert len(pods) >= (2 if task in DEFERRED else 1)
    others = {change.name for change in run.workers.changes if change.thing["metadata"]["labels"]["task_id"] != task}
    assert not pods & others


def test_the_stream_has_a_driver_and_an_executor_in_pods(run):
    pods = {
        (labels["spark-role"], change.thing["status"]["phase"])
        for change in run.streams.changes
        if (labels := change.thing["metadata"]["labels"]).get("app.kubernetes.io/name") == APPLICATION
        and "spark-role" in labels
    }
    assert {("driver", "Running"), ("executor", "Running"), ("driver", "Succeeded")} <= pods


def test_the_replay_is_a_job_that_succeeds(run):
    phases = [
        change.thing["status"]["phase"]
        for change in run.streams.changes
        if change.thing["metadata"]["labels"].get("batch.kubernetes.io/job-name") == "replay"
    ]
    assert phases[-1] == "Succeeded"


def test_the_operator_says_that_it_runs(run):
    assert run.application_was("RUNNING")


def test_checkpoint_and_table_are_on_s3(platform, run):
    assert platform.bucket.last_commit() > 0
    names = platform.bucket.names("tables/event_windows/")
    assert [name for name in names if "/_delta_log/" in name]
    assert [name for name in names if name.endswith(".parquet")]


def test_each_window_is_that_of_duckdb(platform, finished_run):
    """The run has found so itself; here the table is read anew, and from outside of the cluster."""
    run = finished_run.run
    found = platform.bucket.verify(HEALTHY.first_day, HEALTHY.days)
    assert found.passed, found.failure()
    assert found.expected_windows > 1000
    assert run.result("verify_outputs") == {
        "windows": found.expected_windows,
        "events": sum(found.expected_events.values()),
    }


@pytest.mark.parametrize("task", TASKS)
def test_a_task_s_log_outlasts_its_pod(task, platform, run):
    gone = {change.name for change in run.workers.changes if change.kind == "DELETED"}
    own = {change.name for change in run.workers.changes if change.thing["metadata"]["labels"]["task_id"] == task}
    assert own <= gone
    assert platform.bucket.names(f"airflow-logs/dag_id={DAG_ID}/run_id={run.run_id}/task_id={task}/")
    # Airflow's API says where it has read it.
    assert any(line.startswith("s3://") for line in run.log(task))


def test_the_log_has_what_the_task_said(run):
    assert [line for line in run.log("verify_outputs") if "all as expected" in line]
