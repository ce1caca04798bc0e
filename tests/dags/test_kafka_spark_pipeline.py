"""The shape of `kafka_spark_pipeline`."""

import json
from copy import deepcopy
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import ParamValidationError

from millrace import callbacks, kafka
from millrace.config import load_settings
from millrace.operators.kafka import CreateTopicsOperator
from millrace.operators.stream import StartApplicationOperator, StartJobOperator, StopPipelineOperator
from millrace.sensors.stream import CaughtUpSensor
from millrace.targets.manifest import load_manifest
from tests.dags.conftest import REPOSITORY

ORDER = [
    "check_kafka",
    "create_topics",
    "produce_people",
    "start_streaming",
    "wait_until_read",
    "show_output",
    "stop_pipeline",
]


@pytest.fixture(scope="module")
def dag() -> Any:
    import kafka_spark_pipeline

    return kafka_spark_pipeline.dag


def test_tasks_have_an_order_a_pool_retries_and_an_owner(dag: Any) -> None:
    assert [task.task_id for task in dag.topological_sort()] == ORDER
    for before, after in pairwise(ORDER):
        assert before in dag.get_task(after).upstream_task_ids
    pools = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    for task in dag.tasks:
        assert task.pool in pools
        assert (task.owner, task.retries, task.retry_delay) == ("streaming", 3, timedelta(minutes=5))
    assert dag.doc_md and dag.tags and dag.dagrun_timeout and dag.max_active_runs == 1
    assert dag.on_success_callback is callbacks.announce_success
    assert dag.on_failure_callback[0] is callbacks.announce_failure


def test_the_stop_task_is_a_teardown_that_judges_all_others(dag: Any) -> None:
    stop = dag.get_task("stop_pipeline")
    assert isinstance(stop, StopPipelineOperator)
    assert stop.is_teardown and stop.on_failure_fail_dagrun
    assert stop.decisive_tasks == ORDER[:-1]


def test_names_are_those_of_manifest_settings_and_contract(dag: Any) -> None:
    root = load_settings({}).root
    start, create, wait = (dag.get_task(name) for name in ("start_streaming", "create_topics", "wait_until_read"))
    assert isinstance(start, StartApplicationOperator)
    assert isinstance(create, CreateTopicsOperator)
    assert isinstance(wait, CaughtUpSensor)
    assert start.application == load_manifest(root / "spark-apps/adults/application.yaml").name
    settings = yaml.safe_load((root / "spark-apps/adults/settings.yaml").read_text())
    topics = [settings["source"]["topic"], settings["dead_letter"]["topic"], settings["sinks"]["kafka"]["topic"]]
    assert create.own_topics == topics
    assert set(topics) <= kafka.load_topics(root / "contracts" / "topics.yaml").keys()
    # No windows: nothing but reading all of it is waited for, and nobody sends heartbeats.
    assert (wait.topic, wait.window, wait.slide, start.topic) == (topics[0], None, None, None)


def test_parameters_reach_the_job_and_the_application(dag: Any) -> None:
    produce, start = dag.get_task("produce_people"), dag.get_task("start_streaming")
    assert isinstance(produce, StartJobOperator)
    params = {"params": {"people": "Frank=44", "minimum_age": 21}}
    rendered = [produce.render_template(argument, params) for argument in produce.arguments]
    assert rendered == ["people", "--topic=input-topic", "--people=Frank=44"]
    rendered = [start.render_template(argument, params) for argument in start.arguments]
    assert rendered == ["--set", "parameters.minimum_age=21"]


@pytest.mark.parametrize(("name", "value"), [("minimum_age", -1), ("minimum_age", "old"), ("people", 5)])
def test_bad_parameters_are_refused(dag: Any, name: str, value: Any) -> None:
    with pytest.raises(ParamValidationError):
        deepcopy(dag.params)[name] = value
