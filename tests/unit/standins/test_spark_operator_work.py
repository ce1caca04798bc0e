"""How the stand-in for the Spark operator counts, and how it divides work among its threads."""

import re
import threading
import time
from typing import Any

import yaml

from embedded.paths import REPOSITORY
from tests.cluster.standins.spark_operator.metrics import COUNTERS, GAUGES, Metrics
from tests.cluster.standins.spark_operator.work_queue import WorkQueue

A, B = ("streams", "a"), ("streams", "b")


def app(state: str, **status: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "streams", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {}}
    return {"metadata": metadata, "status": {"applicationState": {"state": state}, **status}}


def executor(phase: str) -> dict[str, Any]:
    return {"metadata": {"name": "e", "namespace": "streams"}, "status": {"phase": phase}}


def samples(metrics: Metrics) -> dict[str, float]:
    """Every number; Python's own parser would give counters the ending that upstream's lack."""
    lines = [line for line in metrics.text().splitlines() if not line.startswith("#")]
    found = [re.fullmatch(r'(\w+){app_type="Unknown"} (.+)', line) for line in lines]
    return {each[1]: float(each[2]) for each in found if each} if all(found) else {}


def life(metrics: Metrics, *states: str) -> None:
    """The changes of an application that goes through these states."""
    last = None
    for state in states:
        new = app(state)
        metrics.application_changed(last, new)
        last = new


def test_nothing_is_served_of_what_did_not_happen() -> None:
    assert Metrics().text() == ""


def test_what_happens_to_applications_is_counted() -> None:
    metrics = Metrics()
    life(metrics, "", "SUBMISSION_FAILED", "SUBMITTED", "SUBMITTED", "RUNNING")
    assert samples(metrics) == {
        "spark_application_count": 1,
        "spark_application_failed_submission_count": 1,
        "spark_application_submit_count": 1,
        "spark_application_running_count": 1,
    }
    metrics.application_changed(app("RUNNING"), app("FAILING"))
    ended = {"lastSubmissionAttemptTime": "2026-01-01T00:00:00Z", "terminationTime": "2026-01-01T00:00:05Z"}
    metrics.application_changed(app("FAILING"), app("FAILED", **ended))
    found = samples(metrics)
    assert found["spark_application_running_count"] == 0
    assert found["spark_application_failure_count"] == 1
    assert found["spark_application_failure_execution_time_seconds_sum"] == 5


def test_an_application_that_is_deleted_runs_no_more() -> None:
    metrics = Metrics()
    life(metrics, "", "SUBMITTED", "RUNNING")
    metrics.application_changed(app("RUNNING"), None)
    assert samples(metrics)["spark_application_running_count"] == 0


def test_executors_are_counted() -> None:
    metrics = Metrics()
    metrics.pod_changed(None, executor("Pending"))
    metrics.pod_changed(executor("Pending"), executor("Running"))
    assert samples(metrics) == {"spark_executor_running_count": 1}
    metrics.pod_changed(executor("Running"), executor("Failed"))
    assert samples(metrics) == {"spark_executor_running_count": 0, "spark_executor_failure_count": 1}


def test_the_names_are_those_that_dashboards_and_rules_were_made_for() -> None:
    exported = yaml.safe_load((REPOSITORY / "tests/monitoring/exported/spark-operator.yaml").read_text())["metrics"]
    assert exported.keys() <= {*COUNTERS, *GAUGES}
    assert {tuple(labels) for labels in exported.values()} == {("app_type",)}


def test_a_key_is_given_to_one_worker_at_a_time() -> None:
    queue = WorkQueue()
    queue.add(A)
    queue.add(A)
    assert queue.get() == A
    queue.add(A)
    queue.add(B)
    assert queue.get() == B
    queue.done(A)
    assert queue.get() == A


def test_a_worker_that_waits_is_woken_for_what_is_due_though_others_are_busy() -> None:
    queue = WorkQueue()
    found: list[Any] = []
    workers = [threading.Thread(target=lambda: found.append(queue.get()), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    queue.add_later(A, 0.05)
    queue.add(B)
    for worker in workers:
        worker.join(10)
    assert sorted(found) == [A, B]


def test_failures_are_looked_at_again_later_and_later() -> None:
    queue = WorkQueue()
    delays = [queue.add_failed(A) for _ in range(4)]
    assert delays == [0.005, 0.01, 0.02, 0.04]
    queue.succeeded(A)
    assert queue.add_failed(A) == 0.005
    start = time.monotonic()
    assert queue.get() == A
    assert time.monotonic() - start < 5


def test_a_closed_queue_lets_workers_end() -> None:
    queue = WorkQueue()
    queue.close()
    assert queue.get() is None
