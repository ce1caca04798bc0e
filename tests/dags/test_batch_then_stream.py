"""The shape of `batch_then_stream`."""

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import ParamValidationError

from millrace import callbacks, kafka
from millrace.config import load_settings
from millrace.operators.batch import RunApplicationOperator
from millrace.operators.stream import StopPipelineOperator
from millrace.targets.manifest import load_manifest
from tests.dags.conftest import REPOSITORY

TASKS = {
    "check_kafka": set(),
    "create_topics": {"check_kafka"},
    "prepare_reference": {"create_topics"},
    "find_version": {"prepare_reference"},
    "send_orders": {"create_topics"},
    "start_streaming": {"find_version", "send_orders"},
    "wait_until_read": {"start_streaming"},
    "verify_outputs": {"wait_until_read"},
    "stop_pipeline": {"verify_outputs"},
}
ROOT = load_settings({}).root


@pytest.fixture(scope="module")
def dag() -> Any:
    import batch_then_stream

    return batch_then_stream.dag


def test_the_stream_starts_after_the_batch_and_the_check_comes_last(dag: Any) -> None:
    assert {task.task_id: task.upstream_task_ids for task in dag.tasks} == TASKS
    pools = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    for task in dag.tasks:
        assert task.pool in pools
        assert (task.owner, task.retries, task.retry_delay) == ("streaming", 3, timedelta(minutes=5))
    assert dag.doc_md and dag.tags and dag.max_active_runs == 1
    assert dag.on_failure_callback[0] is callbacks.announce_failure
    assert len(dag.on_failure_callback) == 3  # the stream and the batch are stopped where a run is timed out


def test_the_stop_task_is_a_teardown_that_judges_all_others(dag: Any) -> None:
    stop = dag.get_task("stop_pipeline")
    assert isinstance(stop, StopPipelineOperator)
    assert stop.is_teardown and stop.on_failure_fail_dagrun
    assert set(stop.decisive_tasks) == set(TASKS) - {"stop_pipeline"}


def test_names_are_those_of_manifests_settings_and_contract(dag: Any) -> None:
    settings = {
        name: yaml.safe_load((ROOT / "spark-apps" / name / "settings.yaml").read_text())
        for name in ("stream-join", "reference-data")
    }
    join = settings["stream-join"]
    topics = [join["source"]["topic"], join["dead_letter"]["topic"], join["sinks"]["kafka"]["topic"]]
    create, run, start = (dag.get_task(name) for name in ("create_topics", "prepare_reference", "start_streaming"))
    assert create.own_topics == topics
    assert set(topics) <= kafka.load_topics(ROOT / "contracts/topics.yaml").keys()
    assert isinstance(run, RunApplicationOperator)
    for task, name in ((run, "reference-data"), (start, "stream-join")):
        assert task.application == load_manifest(ROOT / "spark-apps" / name / "application.yaml").name == name
    # What the batch makes is what the stream reads; the run's own table is not.
    assert settings["reference-data"]["table"]["path"] == join["reference"]["path"]
    assert join["sinks"]["delta"]["path"].endswith(f"/tables/{create.tables[0]}")


@pytest.mark.parametrize(
    ("as_of", "logical", "expected"),
    [
        ("2025-12-31", datetime(2026, 2, 3, tzinfo=UTC), "2025-12-31"),
        ("", datetime(2026, 2, 3, tzinfo=UTC), "2026-02-03"),
        ("", None, "2026-05-06"),
    ],
)
def test_the_day_of_the_prices_is_that_of_the_run_unless_one_is_given(
    dag: Any, as_of: str, logical: datetime | None, expected: str
) -> None:
    task = dag.get_task("prepare_reference")
    run = SimpleNamespace(logical_date=logical, run_after=datetime(2026, 5, 6, tzinfo=UTC))
    context = {"params": {"as_of": as_of}, "dag_run": run}
    rendered = [task.render_template(each, context, jinja_env=task.get_template_env(dag)) for each in task.arguments]
    assert rendered == ["--set", f"parameters.as_of={expected}"]


@pytest.mark.parametrize(
    ("name", "value"), [("as_of", "today"), ("orders", 0), ("seed", -1), ("mode", "again"), ("orders", "many")]
)
def test_bad_parameters_are_refused(dag: Any, name: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        deepcopy(dag.params)[name] = value
