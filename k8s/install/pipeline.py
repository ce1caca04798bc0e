"""Run the main job in the cluster: trigger the DAG by Airflow's API, show its tasks, say how it ended."""

import base64
import contextlib
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from k8s.install.airflow_api import Airflow, AirflowUnreachableError
from k8s.install.cluster import Cluster
from k8s.install.console import duration, say
from k8s.install.errors import UserError
from k8s.install.pages import Forward
from main_job.options import RunOptions

DAG_ID = "streaming_pipeline"
POLL_SECONDS = 2.0
SILENCE_SECONDS = 120.0
"""How long Airflow may not answer before we stop following."""
LOG_LINES = 15
QUIET = (None, "none", "scheduled", "queued")
"""States that are not worth a line."""
WORDS = {"deferred": "watching", "up_for_retry": "waits to retry", "upstream_failed": "not run"}
VERIFY, REPORT = "verify_outputs", "generate_report"


def run_pipeline(cluster: Cluster, options: RunOptions, *, poll_seconds: float = POLL_SECONDS) -> int:
    """Run the job; return 0 only if its run succeeded, which includes that every window was verified.

    Raises:
        UserError: Airflow is not there, refuses, or falls silent.
    """
    with connected(cluster) as airflow:
        run_id = f"run-{datetime.now():%Y-%m-%d-%H-%M-%S}"
        try:
            airflow.unpause(DAG_ID)
            airflow.trigger(DAG_ID, run_id, options.parameters)
        except AirflowUnreachableError as error:
            raise UserError(f"Airflow does not answer ({error}): try again when its pods are ready.") from None
        say(f"Started {DAG_ID}: {run_id}. Ctrl-C stops following, not the run.")
        began = time.monotonic()
        state, tasks = _follow(airflow, run_id, poll_seconds)
        return _conclude(airflow, run_id, state, tasks, time.monotonic() - began)


@contextlib.contextmanager
def connected(cluster: Cluster) -> Iterator[Airflow]:
    """A way to the cluster's Airflow, as its administrator, by a port of this machine.

    Raises:
        UserError: it is not there, or does not let us in.
    """
    if not cluster.existing("service", ["airflow-api-server"], "airflow"):
        raise UserError(f"There is no Airflow in the cluster {cluster.context}: install it first (`make kind-up`).")
    encoded = cluster.secret("airflow-admin", "airflow").get("password")
    if not encoded:
        raise UserError("There is no secret airflow/airflow-admin with a password: `make secrets` makes it.")
    forward = Forward(cluster.kubectl("port-forward", "service/airflow-api-server", ":8080", "--namespace", "airflow"))
    try:
        url = f"http://127.0.0.1:{forward.local_port()}"
        try:
            yield Airflow(url, "admin", base64.b64decode(encoded).decode())
        except AirflowUnreachableError as error:
            raise UserError(f"Airflow does not answer ({error}): try again when its pods are ready.") from None
    finally:
        forward.stop()


def _follow(airflow: Airflow, run_id: str, poll_seconds: float) -> tuple[str, list[dict[str, Any]]]:
    """Say each change of a task until the run has ended; return its state and its tasks."""
    shown: dict[str, str] = {}
    answered = time.monotonic()
    while True:
        try:
            state, tasks = airflow.state(DAG_ID, run_id), airflow.tasks(DAG_ID, run_id)
        except AirflowUnreachableError as error:
            if time.monotonic() - answered > SILENCE_SECONDS:
                raise UserError(
                    f"Airflow has not answered for {SILENCE_SECONDS:.0f} s ({error}); the run may go on: look "
                    "with `make ui`."
                ) from None
        else:
            answered = time.monotonic()
            for task in sorted(tasks, key=lambda each: each.get("start_date") or "~"):
                text = _words(task)
                if task["state"] not in QUIET and shown.get(task["task_id"]) != text:
                    shown[task["task_id"]] = text
                    say(f"{task['task_id']}: {text}")
            if state in ("success", "failed"):
                return state, tasks
        time.sleep(poll_seconds)


def _words(task: dict[str, Any]) -> str:
    attempt = f" (try {task['try_number']})" if (task.get("try_number") or 0) > 1 else ""
    took = f" in {task['duration']:.0f} s" if task["state"] in ("success", "failed") and task.get("duration") else ""
    return f"{WORDS.get(task['state'], task['state'])}{attempt}{took}"


def _conclude(airflow: Airflow, run_id: str, state: str, tasks: list[dict[str, Any]], seconds: float) -> int:
    """Say the result; return the exit status."""
    if state == "success":
        for task_id in (VERIFY, REPORT):
            result = airflow.result(DAG_ID, run_id, task_id)
            for name, value in result.items() if isinstance(result, dict) else ():
                say(f"  {name}: {value:,}" if isinstance(value, int) else f"  {name}: {value}")
        say(f"Success in {duration(seconds)}: every task succeeded and every window is exactly right.")
        return 0
    failed = [task for task in tasks if task["state"] == "failed"]
    for task in sorted(failed, key=lambda each: each.get("end_date") or "")[:1]:
        say(f"{task['task_id']} failed. The end of its log:")
        for line in airflow.log(DAG_ID, run_id, task["task_id"], task["try_number"])[-LOG_LINES:]:
            say(f"  {line}")
    say(f"Failed after {duration(seconds)}. The run is {run_id}; `make ui` shows it in Airflow.")
    return 1
