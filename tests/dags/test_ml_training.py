"""`ml_training`: its shape; a run that deploys, and one whose best model is not good enough."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import REPOSITORY, run_python

CODE = """
import json
from ml_training import dag
from millrace import registry, storage
good = {"models": ["logistic-regression", "random-forest"]}
for conf in (good, {**good, "threshold": 0.999}):
    run = dag.test(run_conf=conf)
    states = {f"{ti.task_id}{max(ti.map_index, 0)}": ti.state for ti in run.get_task_instances()}
    print(json.dumps({
        "run": run.state, "states": states, "aliases": registry.aliases("breast-cancer"),
        "versions": [dict(each.metadata) for each in registry.versions("breast-cancer")],
        "staged": storage.exists("staging", dag.dag_id, storage.run_folder(run.run_id)),
    }))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("storage")


@pytest.fixture(scope="module")
def outcomes(airflow_database: dict[str, str], folder: Path) -> list[dict[str, Any]]:
    environment = airflow_database | {"MILLRACE_STORAGE": f"file://{folder}", "MILLRACE_RETRY_DELAY_SECONDS": "0.1"}
    return [json.loads(line) for line in run_python(CODE, environment).splitlines() if line.startswith('{"run"')]


@pytest.fixture(scope="module")
def dag() -> Any:
    import ml_training

    return ml_training.dag


def test_models_are_mapped_and_judged_before_they_are_deployed(dag: Any) -> None:
    assert dag.get_task("train").is_mapped
    assert dag.get_task("train").upstream_task_ids == {"preprocess", "configured_models"}
    assert dag.get_task("evaluate").upstream_task_ids == {"train", "preprocess"}
    assert dag.get_task("deploy").upstream_task_ids == {"evaluate", "preprocess"}
    assert dag.get_task("notify").upstream_task_ids == {"deploy", "evaluate"}


def test_schedule_limits_and_documentation(dag: Any) -> None:
    assert dag.schedule == "0 2 * * *"
    assert dag.params["threshold"] == 0.88
    assert dag.dagrun_timeout == timedelta(hours=2)
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    assert dag.doc_md and dag.tags
    pools = json.loads((REPOSITORY / "dags" / "pools.json").read_text())
    assert {task.pool for task in dag.tasks} <= set(pools)
    assert {task.retries for task in dag.tasks} == {2}


def test_choices_are_those_of_the_library(dag: Any) -> None:
    from millrace import datasets, training

    assert tuple(dag.params.get_param("data_set").schema["enum"]) == datasets.NAMES
    assert tuple(dag.params["models"]) == training.MODELS


def test_the_best_model_is_deployed_with_its_figures(outcomes: list[dict[str, Any]]) -> None:
    first = outcomes[0]
    assert first["run"] == "success"
    assert set(first["states"].values()) == {"success"}
    assert {"train0", "train1"} <= set(first["states"])
    assert first["aliases"] == {"production": 1}
    (version,) = first["versions"]
    assert version["accuracy"] >= 0.88
    assert version["kind"] in version["hold_out"]
    assert set(version["hold_out"]) == {"logistic-regression", "random-forest"}
    assert not first["staged"]


def test_a_model_that_is_not_good_enough_is_not_deployed(outcomes: list[dict[str, Any]]) -> None:
    refused = outcomes[1]
    assert refused["run"] == "failed"
    assert refused["states"]["evaluate0"] == "failed"
    assert refused["states"]["deploy0"] == refused["states"]["notify0"] == "upstream_failed"
    assert (refused["aliases"], refused["versions"]) == (outcomes[0]["aliases"], outcomes[0]["versions"])


def test_what_is_in_production_can_be_used(
    outcomes: list[dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace import datasets, registry, training

    assert outcomes[0]["run"] == "success"
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{folder}")
    data = datasets.download("breast-cancer").frame
    assert training.accuracy(registry.load("breast-cancer"), data) > 0.88
