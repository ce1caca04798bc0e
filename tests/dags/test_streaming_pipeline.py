"""The shape of `streaming_pipeline`."""

import json
from copy import deepcopy
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from airflow.sdk.definitions.deadline import DeadlineReference
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
    "start_generator",
    "start_streaming",
    "monitor_pipeline",
    "verify_outputs",
    "generate_report",
    "stop_pipeline",
]


@pytest.fixture(scope="module")
def dag() -> Any:
    import streaming_pipeline

    return streaming_pipeline.dag


def test_tasks_and_their_order(dag: Any) -> None:
    assert [task.task_id for task in dag.topological_sort()] == ORDER
    for before, after in pairwise(ORDER):
        assert before in dag.get_task(after).upstream_task_ids


def test_every_task_has_pool_queue_and_retries(dag: Any) -> None:
    pools = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    for task in dag.tasks:
        assert task.pool == "streaming_pool"
        assert task.pool in pools
        assert task.queue == "streaming_queue"
        assert task.retries == 3
        assert task.retry_delay == timedelta(minutes=5)
        # In Airflow 3 this is the factor: True would mean 1, which never grows.
        assert task.retry_exponential_backoff == 2
        assert task.owner == "streaming"


def test_run_has_time_limit_deadline_and_callbacks(dag: Any) -> None:
    assert dag.dagrun_timeout == timedelta(hours=2)
    (alert,) = dag.deadline
    assert alert.interval == timedelta(minutes=30)
    assert alert.reference == DeadlineReference.DAGRUN_QUEUED_AT
    assert alert.callback.path == "millrace.callbacks.announce_deadline"
    assert dag.on_success_callback is callbacks.announce_success
    assert dag.on_failure_callback[0] is callbacks.announce_failure
    assert len(dag.on_failure_callback) == 2
    assert (dag.max_active_runs, dag.catchup, dag.schedule) == (1, False, None)
    assert dag.doc_md
    assert {"kafka", "spark"} <= set(dag.tags)


def test_stop_task_is_a_teardown_that_judges_all_others(dag: Any) -> None:
    stop = dag.get_task("stop_pipeline")
    assert isinstance(stop, StopPipelineOperator)
    assert stop.is_teardown
    assert stop.on_failure_fail_dagrun
    # Without a setup task it runs whatever came before; with one it would be skipped if that one failed.
    assert not any(task.is_setup for task in dag.tasks)
    assert stop.decisive_tasks == ORDER[:-1]


def test_waiting_is_done_in_the_triggerer(dag: Any) -> None:
    assert isinstance(dag.get_task("start_streaming"), StartApplicationOperator)
    assert isinstance(dag.get_task("monitor_pipeline"), CaughtUpSensor)


def test_report_is_written_if_windows_differ_but_not_if_nothing_ran(dag: Any) -> None:
    report = dag.get_task("generate_report")
    assert report.trigger_rule == "all_done_min_one_success"
    assert report.upstream_task_ids == {"monitor_pipeline", "verify_outputs"}


def test_names_are_those_of_manifest_and_contract(dag: Any) -> None:
    root = load_settings({}).root
    start, create = dag.get_task("start_streaming"), dag.get_task("create_topics")
    assert isinstance(create, CreateTopicsOperator)
    manifest = load_manifest(root / "spark-apps" / "event-windows" / "application.yaml")
    assert start.application == manifest.name
    topics = kafka.load_topics(root / "contracts" / "topics.yaml")
    assert set(create.own_topics) <= topics.keys()
    assert callbacks.METRICS_TOPIC in topics


def test_parameters(dag: Any) -> None:
    assert dag.params.dump() == {"from_date": "2013-01-01", "days": 31, "pace": 0, "mode": "restart"}


@pytest.mark.parametrize(
    ("name", "value"), [("days", 0), ("days", 366), ("days", "many"), ("pace", -1), ("mode", "again"), ("from_date", 5)]
)
def test_bad_parameters_are_refused(dag: Any, name: str, value: Any) -> None:
    parameters = deepcopy(dag.params)
    with pytest.raises(ParamValidationError):
        parameters[name] = value


def test_parameters_reach_the_replay(dag: Any) -> None:
    task = dag.get_task("start_generator")
    assert isinstance(task, StartJobOperator)
    rendered = [
        task.render_template(argument, {"params": {"from_date": "2013-05-06", "days": 7, "pace": 60}})
        for argument in task.arguments
    ]
    assert rendered == ["replay", "--topic=events", "--from=2013-05-06", "--days=7", "--pace=60"]
    assert task.job.status_file_argument == "--status-file"
    assert task.job.metrics_port_argument == "--metrics-port"
