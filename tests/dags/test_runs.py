"""What becomes of a run: tried with real runs, in one process, on a database of its own."""

import json
import os

import pytest

from tests.dags.conftest import run_python

DAG_FILE = """
import os
from airflow.sdk import DAG, task
from millrace.operators.stream import StopPipelineOperator

with DAG("runs") as dag:
    @task
    def work():
        if os.environ["FAILING"] == "work":
            raise ValueError("on purpose")

    @task
    def after():
        pass

    stop = StopPipelineOperator(
        task_id="stop", application="sample", job="replay", decisive_tasks=["work", "after"]
    ).as_teardown(on_failure_fail_dagrun=True)
    work() >> after() >> stop
"""
CODE = """
import json, os
from runs import dag
for failing in ("nothing", "work"):
    os.environ["FAILING"] = failing
    run = dag.test()
    print(json.dumps({"run": run.state, **{ti.task_id: ti.state for ti in run.get_task_instances()}}))
"""


@pytest.fixture(scope="module")
def outcomes(airflow_database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """States of a run in which every task succeeds, and of one in which the first fails; nothing has to be stopped."""
    folder, home = tmp_path_factory.mktemp("dags"), tmp_path_factory.mktemp("home")
    (folder / "runs.py").write_text(DAG_FILE)
    environment = airflow_database | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join((str(folder), airflow_database["PYTHONPATH"])),
        "MILLRACE_HOME": str(home),
        "MILLRACE_STORAGE": f"file://{home}/storage",
    }
    return [json.loads(line) for line in run_python(CODE, environment).splitlines() if line.startswith('{"run"')]


def test_run_succeeds_if_every_task_did(outcomes: list[dict[str, str]]) -> None:
    assert outcomes[0] == {"run": "success", "work": "success", "after": "success", "stop": "success"}


def test_run_fails_if_a_task_did_though_the_stop_task_could_do_its_work(outcomes: list[dict[str, str]]) -> None:
    assert outcomes[1] == {"run": "failed", "work": "failed", "after": "upstream_failed", "stop": "failed"}
