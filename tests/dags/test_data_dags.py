"""The shape of the DAGs that load and check tables."""

import importlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace import callbacks
from millrace.intervals import newest_interval
from tests.dags.conftest import REPOSITORY

ORDER = {
    "covid_etl": ["extract", "transform", "load", "validate"],
    "data_quality": ["measure_age", "is_fresh", "check_rules", "stale_data", "alert"],
    "market_data": ["market_hours", "wait_for_stragglers", "check_freshness", "process", "aggregate", "store"],
}
SCHEDULES = {
    "covid_etl": ("0 6 * * *", timedelta(days=1)),
    "data_quality": ("0 * * * *", timedelta(hours=1)),
    "market_data": ("*/15 * * * *", timedelta(minutes=15)),
}
DEADLINES = {"covid_etl": timedelta(hours=1), "market_data": timedelta(minutes=15)}
POOLS = json.loads((REPOSITORY / "dags" / "pools.json").read_text())


def load(name: str) -> Any:
    return importlib.import_module(name).dag


@pytest.mark.parametrize("name", ORDER)
def test_tasks_and_their_order(name: str) -> None:
    assert [task.task_id for task in load(name).topological_sort()] == ORDER[name]


@pytest.mark.parametrize("name", ORDER)
def test_every_task_is_bounded_retried_and_owned(name: str) -> None:
    for task in load(name).tasks:
        assert task.owner == "data"
        assert task.execution_timeout
        assert task.retries == 3
        assert task.retry_delay == timedelta(minutes=5)
        assert task.pool == "default_pool" or task.pool in POOLS
        assert task.on_retry_callback == [callbacks.announce_retry]


@pytest.mark.parametrize("name", ORDER)
def test_a_run_is_bounded_told_of_and_described(name: str) -> None:
    dag = load(name)
    assert dag.dagrun_timeout
    assert dag.on_failure_callback is callbacks.announce_failure
    assert dag.on_success_callback is callbacks.announce_success
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert dag.doc_md
    assert dag.description
    assert dag.tags


@pytest.mark.parametrize("name", DEADLINES)
def test_a_late_run_is_told_of(name: str) -> None:
    (alert,) = load(name).deadline
    assert alert.interval == DEADLINES[name]
    assert alert.callback.path == "millrace.callbacks.announce_deadline"


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_run_has_an_interval_of_its_own(name: str) -> None:
    """Runs are incremental by their data interval; a plain cron string gives none in Airflow 3."""
    import pendulum
    from airflow.sdk import CronDataIntervalTimetable
    from airflow.serialization.encoders import coerce_to_core_timetable

    expression, length = SCHEDULES[name]
    timetable = load(name).timetable
    assert timetable == CronDataIntervalTimetable(expression, timezone="UTC")
    interval = coerce_to_core_timetable(timetable).infer_manual_data_interval(
        run_after=pendulum.datetime(2026, 1, 2, 6, 10)
    )
    assert interval.end - interval.start == length
    assert interval.end <= pendulum.datetime(2026, 1, 2, 6, 10)


@pytest.mark.parametrize(
    ("expression", "timezone"),
    [(expression, "UTC") for expression, _ in SCHEDULES.values()]
    + [("30 8 * * 1-5", "America/New_York"), ("0 2 * * *", "Europe/Berlin")],
)
@pytest.mark.parametrize(
    "moment",
    ["2026-01-02 06:10", "2026-01-02 06:00", "2026-01-02 05:59:59.999999", "2026-03-29 00:30", "2026-03-30 04:00"],
)
def test_a_run_without_a_logical_date_gets_the_interval_that_airflow_would_infer(
    expression: str, timezone: str, moment: str
) -> None:
    """At, before and after an interval's end; in a zone whose clocks change."""
    import pendulum
    from airflow.sdk import CronDataIntervalTimetable
    from airflow.serialization.encoders import coerce_to_core_timetable

    run_after = pendulum.instance(datetime.fromisoformat(moment).replace(tzinfo=UTC))
    timetable = coerce_to_core_timetable(CronDataIntervalTimetable(expression, timezone=timezone))
    inferred = timetable.infer_manual_data_interval(run_after=run_after)
    assert newest_interval(expression, timezone, run_after) == (inferred.start, inferred.end)
