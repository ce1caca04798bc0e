"""`feature_engineering`: its shape, and two runs of it on a storage of its own."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import REPOSITORY, run_python

CODE = """
import json, pendulum
from feature_engineering import dag
from millrace import storage, tables
# A day by its logical date, the same again by its parameters, and one that nobody recorded.
two_days = {"from_date": "2013-02-08", "days": 2}
for logical_date, conf in (("2013-02-08", {}), ("2013-02-20", two_days), ("2013-02-21", {"from_date": "2026-01-01"})):
    run = dag.test(logical_date=pendulum.parse(logical_date), run_conf=conf)
    known = {name: tables.read(name) for name in ("features_airport_v1", "features_carrier_v1")}
    print(json.dumps({
        "run": run.state, **{ti.task_id: ti.state for ti in run.get_task_instances()},
        "rows": {name: len(rows) for name, rows in known.items()},
        "distinct": {name: rows.select(rows.columns[:2]).n_unique() for name, rows in known.items()},
        "staged": storage.exists("staging", dag.dag_id, storage.run_folder(run.run_id)),
    }))
"""


@pytest.fixture(scope="module")
def outcomes(airflow_database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    environment = airflow_database | {
        "MILLRACE_STORAGE": f"file://{tmp_path_factory.mktemp('storage')}",
        "MILLRACE_RETRY_DELAY_SECONDS": "0.1",
    }
    return [json.loads(line) for line in run_python(CODE, environment).splitlines() if line.startswith('{"run"')]


@pytest.fixture(scope="module")
def dag() -> Any:
    import feature_engineering

    return feature_engineering.dag


def test_each_set_is_validated_before_it_is_stored(dag: Any) -> None:
    for name in ("airport", "carrier"):
        assert dag.get_task(f"{name}.compute").upstream_task_ids == {"extract"}
        assert dag.get_task(f"{name}.validate").upstream_task_ids == {"extract", f"{name}.compute"}
        store = dag.get_task(f"{name}.store")
        assert f"{name}.validate" in store.upstream_task_ids
        assert f"features_{name}_v1" in [outlet.name for outlet in store.outlets if hasattr(outlet, "name")]
    assert dag.get_task("clean").is_teardown


def test_limits_pool_and_documentation(dag: Any) -> None:
    pools = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    for task in dag.tasks:
        assert task.pool == "tables_pool" and task.pool in pools
        assert (task.retries, task.execution_timeout) == (3, timedelta(minutes=15))
        assert task.owner == "machine-learning"
    assert dag.dagrun_timeout == timedelta(hours=1)
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert dag.doc_md and dag.tags
    assert (str(dag.start_date.date()), str(dag.end_date.date())) == ("2013-01-01", "2013-12-30")


def test_a_day_by_its_logical_date_is_stored(outcomes: list[dict[str, Any]]) -> None:
    day = outcomes[0]
    assert {state for key, state in day.items() if key not in ("rows", "distinct", "staged")} == {"success"}
    assert day["rows"]["features_airport_v1"] == 3 * 24
    assert not day["staged"]


def test_the_same_day_again_is_replaced_not_added(outcomes: list[dict[str, Any]]) -> None:
    both_days = outcomes[1]
    assert both_days["run"] == "success"
    assert both_days["rows"]["features_airport_v1"] == 2 * 3 * 24
    assert both_days["rows"] == both_days["distinct"]


def test_a_day_that_was_not_recorded_fails_and_changes_nothing(outcomes: list[dict[str, Any]]) -> None:
    unknown = outcomes[2]
    assert (unknown["run"], unknown["extract"], unknown["airport.store"]) == ("failed", "failed", "upstream_failed")
    assert unknown["rows"] == outcomes[1]["rows"]


def test_the_store_folder_is_where_tables_are(outcomes: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    base = Path(tmp_path_factory.getbasetemp())
    assert list(base.glob("storage*/tables/features_airport_v1/day=2013-02-08/*.parquet"))
