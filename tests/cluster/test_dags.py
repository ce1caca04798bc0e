"""Other DAGs than the main job's, in pods: by default the smallest one that starts a batch application.

`CLUSTER_DAGS=batch_then_stream,market_data` tries those instead, `CLUSTER_DAGS=all` every one (dag_cases.py).
"""

import os
from datetime import datetime

import pytest

from k8s.install.airflow_api import Airflow
from tests.cluster.dag_cases import Case, cases
from tests.cluster.platform import Platform
from tests.cluster.plugin import TIMES
from tests.cluster.waiting import eventually

CASES = cases(os.environ.get("CLUSTER_DAGS") or "hello_spark")
RUN_SECONDS = 900
SHOWN = 30


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_dag_runs_to_success(settled_platform: Platform, case: Case) -> None:
    """Each of these DAGs verifies what it has made, and fails if a row is wrong."""
    dag_id, run_id = case.dag_id, case.drawn(f"test-{datetime.now():%Y-%m-%d-%H-%M-%S-%f}")
    ask = settled_platform.airflow.ask

    def tasks() -> str:
        found = ask(lambda airflow: airflow.tasks(dag_id, run_id))
        return ", ".join(f"{task['task_id']} {task['state']} (try {task['try_number']})" for task in found)

    def ended() -> str | None:
        state = ask(lambda airflow: airflow.state(dag_id, run_id))
        return state if state in ("success", "failed") else None

    with case.needs(settled_platform):
        ask(lambda airflow: airflow.unpause(dag_id))
        ask(lambda airflow: airflow.trigger(dag_id, run_id, case.parameters))
        began = datetime.now()
        state = eventually(ended, f"the end of {dag_id}", RUN_SECONDS, every=2, else_=tasks)
        ask(lambda airflow: airflow.pause(dag_id))  # or those with a schedule would go on
    if state == "failed":
        logs = ask(lambda airflow: last_words(airflow, dag_id, run_id))
        pytest.fail(f"{dag_id} failed: {tasks()}\n{logs}", pytrace=False)
    TIMES.note(f"run of {case.name}: trigger to success", (datetime.now() - began).total_seconds())


def last_words(airflow: Airflow, dag_id: str, run_id: str) -> str:
    """What each task that failed has logged last."""
    return "\n".join(
        f"--- {task['task_id']}\n"
        + "\n".join(airflow.log(dag_id, run_id, task["task_id"], task["try_number"])[-SHOWN:])
        for task in airflow.tasks(dag_id, run_id)
        if task["state"] == "failed"
    )
