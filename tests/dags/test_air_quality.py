"""The shape of `air_quality`."""

from copy import deepcopy
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import ParamValidationError

from ingest import __main__ as command_line
from ingest.simulate import STATIONS
from millrace import callbacks, kafka
from millrace.config import load_settings
from millrace.operators.kafka import CreateTopicsOperator
from millrace.operators.stream import StartApplicationOperator, StartJobOperator, StopPipelineOperator
from millrace.sensors.stream import CaughtUpSensor
from millrace.targets.manifest import load_manifest
from streamkit.settings import load_settings as load_app_settings
from streamkit.settings_loader import duration_ms

ORDER = [
    "check_kafka",
    "create_topics",
    "start_generator",
    "start_streaming",
    "monitor_pipeline",
    "verify_outputs",
    "show_alerts",
    "stop_pipeline",
]
ROOT = load_settings({}).root
APP = ROOT / "spark-apps" / "air-quality"
ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "s3a://bucket"}


@pytest.fixture(scope="module")
def dag() -> Any:
    import air_quality

    return air_quality.dag


def test_tasks_and_their_order(dag: Any) -> None:
    assert [task.task_id for task in dag.topological_sort()] == ORDER
    for before, after in pairwise(ORDER):
        assert before in dag.get_task(after).upstream_task_ids


def test_every_task_has_pool_queue_and_retries(dag: Any) -> None:
    for task in dag.tasks:
        assert (task.pool, task.queue, task.owner) == ("streaming_pool", "streaming_queue", "streaming")
        assert (task.retries, task.retry_delay, task.retry_exponential_backoff) == (3, timedelta(minutes=5), 2)


def test_run_has_time_limit_deadline_and_callbacks(dag: Any) -> None:
    assert dag.dagrun_timeout == timedelta(hours=1)
    (alert,) = dag.deadline
    assert alert.interval == timedelta(minutes=30)
    assert dag.on_success_callback is callbacks.announce_success
    assert dag.on_failure_callback[0] is callbacks.announce_failure
    assert len(dag.on_failure_callback) == 2
    assert (dag.max_active_runs, dag.catchup, dag.schedule) == (1, False, None)
    assert dag.doc_md


def test_stop_task_is_a_teardown_that_judges_all_others(dag: Any) -> None:
    stop = dag.get_task("stop_pipeline")
    assert isinstance(stop, StopPipelineOperator)
    assert stop.is_teardown and stop.on_failure_fail_dagrun
    assert stop.decisive_tasks == ORDER[:-1]


def test_alerts_are_shown_if_windows_differ_but_not_if_nothing_ran(dag: Any) -> None:
    shown = dag.get_task("show_alerts")
    assert shown.trigger_rule == "all_done_min_one_success"
    assert shown.upstream_task_ids == {"monitor_pipeline", "verify_outputs"}


def test_names_and_windows_are_those_of_manifest_contract_and_app(dag: Any) -> None:
    import air_quality

    create, start, monitor = (dag.get_task(name) for name in ("create_topics", "start_streaming", "monitor_pipeline"))
    assert isinstance(create, CreateTopicsOperator)
    assert isinstance(start, StartApplicationOperator)
    assert isinstance(monitor, CaughtUpSensor)
    assert start.application == load_manifest(APP / "application.yaml").name == air_quality.QUERY
    assert set(create.own_topics) <= kafka.load_topics(ROOT / "contracts" / "topics.yaml").keys()
    settings = load_app_settings(APP / "settings.yaml", environment=ENVIRONMENT)
    assert settings.window and settings.sinks.kafka and settings.sinks.delta and settings.dead_letter
    assert create.own_topics == [settings.source.topic, settings.dead_letter.topic, settings.sinks.kafka.topic]
    assert [f"s3a://bucket/tables/{table}" for table in create.tables] == [settings.sinks.delta.path]
    assert monitor.window == timedelta(milliseconds=duration_ms(settings.window.length))
    assert monitor.slide == timedelta(milliseconds=duration_ms(settings.window.slide))
    assert len(STATIONS) * 360 == air_quality.READINGS_PER_HOUR


def test_parameters(dag: Any) -> None:
    limit = yaml.safe_load((APP / "settings.yaml").read_text())["parameters"]["pm25_limit"]
    assert dag.params.dump() == {"hours": 6, "seed": 1, "pm25_limit": limit, "mode": "restart"}


@pytest.mark.parametrize(
    ("name", "value"), [("hours", 0), ("hours", 169), ("seed", -1), ("pm25_limit", "much"), ("mode", "again")]
)
def test_bad_parameters_are_refused(dag: Any, name: str, value: Any) -> None:
    parameters = deepcopy(dag.params)
    with pytest.raises(ParamValidationError):
        parameters[name] = value


def test_parameters_reach_generator_and_application(dag: Any) -> None:
    context = {"params": {"hours": 2, "seed": 7, "pm25_limit": 12.5, "mode": "resume"}}
    generator, start = dag.get_task("start_generator"), dag.get_task("start_streaming")
    assert isinstance(generator, StartJobOperator)
    arguments = [generator.render_template(argument, context) for argument in generator.arguments]
    parsed = command_line.parser().parse_args(arguments)
    assert (parsed.command, parsed.topic, parsed.count, parsed.seed) == (generator.job.name, "air-quality", 4320, 7)
    assert (parsed.rate, parsed.fast, parsed.close_after_minutes) == (0.6, True, 20)
    rendered = [start.render_template(argument, context) for argument in start.arguments]
    assert rendered == ["--set", "parameters.pm25_limit=12.5"]
    given = load_app_settings(APP / "settings.yaml", rendered[1::2], ENVIRONMENT)
    assert given.parameters == {"pm25_limit": "12.5"}


def test_the_heartbeats_close_the_last_window(dag: Any) -> None:
    """Heartbeat less watermark's delay lies at or behind the end of the last window."""
    settings = load_app_settings(APP / "settings.yaml", environment=ENVIRONMENT)
    assert settings.window and settings.watermark
    task = dag.get_task("start_generator")
    close = next(argument for argument in task.arguments if argument.startswith("--close-after-minutes="))
    minutes = int(close.partition("=")[2])
    assert minutes * 60_000 >= duration_ms(settings.watermark.delay) + duration_ms(settings.window.length)
