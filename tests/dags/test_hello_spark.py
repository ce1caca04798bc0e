"""The shape of `hello_spark`."""

import json
from datetime import timedelta
from typing import Any

import pytest

from millrace import callbacks
from millrace.config import load_settings
from millrace.operators.batch import RunApplicationOperator
from millrace.targets.manifest import load_manifest
from tests.dags.conftest import REPOSITORY


@pytest.fixture(scope="module")
def dag() -> Any:
    import hello_spark

    return hello_spark.dag


def test_tasks_have_an_order_a_pool_retries_and_an_end(dag: Any) -> None:
    assert [task.task_id for task in dag.topological_sort()] == ["count_primes", "show_result"]
    pools = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    for task in dag.tasks:
        assert task.pool in pools
        assert (task.owner, task.retries, task.retry_delay) == ("streaming", 3, timedelta(minutes=5))
    assert dag.doc_md and {"spark", "batch"} <= set(dag.tags)
    run = dag.get_task("count_primes")
    assert isinstance(run, RunApplicationOperator)
    assert timedelta(seconds=run.timeout) < dag.dagrun_timeout
    assert dag.on_failure_callback[0] is callbacks.announce_failure


def test_it_runs_the_application_of_its_manifest_with_the_parameters(dag: Any) -> None:
    run = dag.get_task("count_primes")
    manifest = load_manifest(load_settings({}).root / "spark-apps/hello-spark/application.yaml")
    assert run.application == manifest.name
    assert manifest.restart.type == "Never"
    rendered = [run.render_template(each, {"params": {"limit": 50, "segments": 5}}) for each in run.arguments]
    assert rendered == ["--set", "parameters.limit=50", "--set", "parameters.segments=5"]
