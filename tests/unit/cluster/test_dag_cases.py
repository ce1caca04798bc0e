"""The runs of DAGs that the cluster's tests can try."""

import pytest

from embedded.paths import REPOSITORY
from millrace.drill import luck
from tests.cluster import dag_cases
from tests.cluster.runs import DAG_ID


def test_every_dag_is_among_them() -> None:
    """The main job is what the other tests of that folder run."""
    files = {path.stem for path in (REPOSITORY / "dags").glob("*.py")}
    assert {case.dag_id for case in dag_cases.ALL} == files - {DAG_ID}
    names = [case.name for case in dag_cases.ALL]
    assert len(set(names)) == len(names)


def test_dags_are_chosen_by_name() -> None:
    assert dag_cases.cases("all") == dag_cases.ALL
    assert [case.name for case in dag_cases.cases("data_quality,ml_training")] == [
        "data_quality",
        "ml_training",
        "ml_training-flights",
    ]
    with pytest.raises(ValueError, match=r"CLUSTER_DAGS names 'nothing': take all, or of air_quality, "):
        dag_cases.cases("hello_spark,nothing")


@pytest.mark.parametrize("beginning", ["a", "b", "c"])
def test_the_drill_s_run_has_a_retry_and_succeeds(beginning: str) -> None:
    run_id = dag_cases.one_retry_at_least(beginning)
    tries = [[luck(run_id, f"step {step}", number) >= 0.5 for number in (1, 2, 3)] for step in range(4)]
    assert run_id.startswith(beginning)
    assert all(any(each) for each in tries)
    assert any(not each[0] for each in tries)


@pytest.mark.parametrize("code", [dag_cases.SEND_TRADES, dag_cases.DASHBOARD])
def test_what_pods_run_is_whole(code: str) -> None:
    """It is put together from modules of the tests, which the pods' images do not have."""
    compile(code, "pod", "exec")
    assert "from tests" not in code
    assert "import tests" not in code
