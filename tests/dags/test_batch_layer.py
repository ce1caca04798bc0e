"""`batch_layer`: its shape, the hand-over by `streaming_pipeline`, and a run on a month of real windows."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from millrace import assets, tables
from millrace.verification import Windows, connection, load_expected
from tests.dags.conftest import REPOSITORY, run_python

CODE = """
import json
from batch_layer import dag
from millrace import batch, registry
run = dag.test()
print(json.dumps({
    "run": run.state, "states": {ti.task_id: ti.state for ti in run.get_task_instances()},
    "events": int(batch.serve()["events"].sum()),
    "models": [dict(each.metadata) for each in registry.versions("events-by-hour")],
}))
"""


@pytest.fixture(scope="module")
def outcome(airflow_database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("storage")
    with connection() as database, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MILLRACE_STORAGE", f"file://{folder}")
        load_expected(database, Windows(date(2013, 1, 1), 31, timedelta(minutes=5), timedelta(minutes=5)))
        windows = database.sql(
            "SELECT make_timestamptz(start_s * 1000000) AS window_start, "
            "make_timestamptz(end_s * 1000000) AS window_end, event_type, events FROM expected"
        )
        tables.append("event_windows", pl.DataFrame(windows))
        events = len(database.table("events"))
    (folder / "ranges").mkdir()
    (folder / "ranges" / "events.json").write_text('{"from": "2013-01-01", "days": "31"}')
    environment = airflow_database | {"MILLRACE_STORAGE": f"file://{folder}", "MILLRACE_RETRY_DELAY_SECONDS": "0.1"}
    lines = run_python(CODE, environment).splitlines()
    found = next(json.loads(line) for line in lines if line.startswith('{"run"'))
    return found | {"folder": folder, "streamed": events}


@pytest.fixture(scope="module")
def dag() -> Any:
    import batch_layer

    return batch_layer.dag


def test_it_starts_when_streaming_pipeline_has_verified_its_windows(dag: Any) -> None:
    import streaming_pipeline

    assert dag.schedule == [assets.EVENT_WINDOWS]
    emitting = [task.task_id for task in streaming_pipeline.dag.tasks if assets.EVENT_WINDOWS in task.outlets]
    assert emitting == ["verify_outputs"]


def test_shape_limits_and_documentation(dag: Any) -> None:
    order = ["aggregate_historical_data", "train_ml_models", "generate_reports"]
    assert [task.task_id for task in dag.topological_sort()] == order
    assert dag.get_task("generate_reports").trigger_rule == "none_failed"
    pools = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    assert {task.pool for task in dag.tasks} <= set(pools)
    assert {task.retries for task in dag.tasks} == {3}
    assert (dag.max_active_runs, dag.catchup, dag.dagrun_timeout) == (1, False, timedelta(hours=1))
    assert dag.doc_md and dag.tags


def test_a_month_is_taken_over_forecast_and_reported(outcome: dict[str, Any]) -> None:
    assert outcome["run"] == "success"
    assert set(outcome["states"].values()) == {"success"}
    assert outcome["events"] == outcome["streamed"] > 50_000
    (model,) = outcome["models"]
    assert model["error"] < min(model["same_as_yesterday"], model["same_as_last_week"])
    folder: Path = outcome["folder"]
    (summary,) = (folder / "reports" / "batch_layer").glob("*/summary.json")
    assert json.loads(summary.read_text())["events in all"] == outcome["streamed"]
    assert (summary.parent / "report.html").stat().st_size > 1_000_000
    assert not list((folder / "staging").rglob("*.parquet"))
