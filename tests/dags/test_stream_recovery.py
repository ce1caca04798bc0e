"""The shape of `stream_recovery`, and what its tasks are told."""

import json
from copy import deepcopy
from typing import Any

import pytest
from airflow.sdk.exceptions import ParamValidationError

from millrace import callbacks, kafka, recovery_steps
from millrace.config import load_settings
from millrace.operators.jobs import RunJobOperator
from millrace.operators.recovery import RecoveryOperator, StartAgainOperator
from tests.dags.conftest import REPOSITORY

EDGES = {
    "read_request": set(),
    "check_kafka": {"read_request"},
    "stop_running": {"check_kafka"},
    "choose_action": {"stop_running"},
    "inspect_checkpoint": {"choose_action", "read_request"},
    "check_checkpoint": {"choose_action", "read_request"},
    "rewind_checkpoint": {"choose_action", "read_request"},
    "verify_checkpoint": {"rewind_checkpoint", "read_request"},
    "starts_again": {"verify_checkpoint"},
    "start_again": {"starts_again", "read_request"},
    "replay_dead_letters": {"choose_action", "read_request"},
}


@pytest.fixture(scope="module")
def dag() -> Any:
    import stream_recovery

    return stream_recovery.dag


def test_tasks_and_their_order(dag: Any) -> None:
    assert {task.task_id: task.upstream_task_ids for task in dag.tasks} == EDGES


def test_every_task_has_owner_pool_and_retries(dag: Any) -> None:
    pools = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    for task in dag.tasks:
        assert (task.owner, task.pool, task.queue) == ("streaming", "streaming_pool", "streaming_queue")
        assert task.pool in pools
        assert (task.retries, task.retry_exponential_backoff) == (3, 2)
        # A task that waits in the triggerer has a timeout of its own there.
        assert task.execution_timeout or getattr(task, "timeout", None) or task.startup_timeout


def test_run_is_announced_and_leaves_the_app_alone(dag: Any) -> None:
    assert (dag.schedule, dag.catchup, dag.max_active_runs) == (None, False, 1)
    assert dag.dagrun_timeout
    assert dag.doc_md
    assert "recovery" in dag.tags
    assert dag.on_success_callback is callbacks.announce_success
    assert dag.on_failure_callback is callbacks.announce_failure


def test_each_action_has_its_task(dag: Any) -> None:
    assert set(dag.params.get_param("action").schema["enum"]) == set(recovery_steps.CHOICES)
    assert set(recovery_steps.CHOICES.values()) == dag.get_task("choose_action").downstream_task_ids
    actions = {task.task_id: task.action for task in dag.tasks if isinstance(task, RecoveryOperator)}
    assert actions == {
        "inspect_checkpoint": "inspect",
        "check_checkpoint": "check",
        "rewind_checkpoint": "rewind",
        "verify_checkpoint": "check",
    }
    assert isinstance(dag.get_task("start_again"), StartAgainOperator)
    assert isinstance(dag.get_task("replay_dead_letters"), RunJobOperator)


def test_what_changes_something_must_be_asked_for(dag: Any) -> None:
    params = dag.params.dump()
    assert params["action"] == "inspect"
    assert params["dry_run"]
    assert not any(params[name] for name in ("stop_running", "start_again", "keep_table"))
    topics = kafka.load_topics(load_settings({}).root / "contracts" / "topics.yaml")
    assert params["dead_letter_topic"] in topics


@pytest.mark.parametrize(
    ("name", "value"), [("action", "delete"), ("to_batch", -1), ("to_batch", "7"), ("application", ""), ("dry_run", 3)]
)
def test_bad_parameters_are_refused(dag: Any, name: str, value: Any) -> None:
    parameters = deepcopy(dag.params)
    with pytest.raises(ParamValidationError):
        parameters[name] = value


def test_the_app_that_is_started_is_the_one_that_was_asked_for(dag: Any) -> None:
    task = dag.get_task("start_again")
    context = {"params": {"application": "event-windows", "query": ""}}
    manifest = task.render_template(task.manifest, context)
    assert manifest == str(load_settings({}).root / "spark-apps/event-windows/application.yaml")
    assert task.render_template(task.query, context) == "event-windows"
    assert task.render_template(task.application, context) == "event-windows"
    assert {"application", "query", "manifest", "more_arguments"} <= set(task.template_fields)
