"""Airflow as a new interpreter sees it, with a database where a test asks for one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.go_tools import built_once

REPOSITORY = Path(__file__).parents[2]


def clean_environment(airflow_home: Path) -> dict[str, str]:
    """The environment of a fresh Airflow component; nothing of the caller's Airflow or Millrace."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MILLRACE"))}
    folders = (REPOSITORY, REPOSITORY / "dags", REPOSITORY / "spark-apps")
    return environment | {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": os.pathsep.join(str(folder) for folder in folders),
    }


def run_python(code: str, environment: dict[str, str], *arguments: str) -> str:
    """Run a program in a new interpreter; return what it printed. Fails the test with its errors."""
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if run.returncode:
        pytest.fail(f"{run.stdout}\n{run.stderr}")
    return run.stdout


@pytest.fixture(scope="session")
def airflow_database(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow with a migrated SQLite database and the pools of the repository."""
    environment = clean_environment(tmp_path_factory.mktemp("airflow"))
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # which all workers share
    shutil.copy(_migrated(place / "migrated"), environment["AIRFLOW_HOME"])
    return environment


def _migrated(home: Path) -> Path:
    """Return a database to copy: a migration takes longer than most tests, and each package of tests has its own."""
    with built_once(home):
        if not (home / "ready").exists():
            environment = clean_environment(home)
            for arguments in (["db", "migrate"], ["pools", "import", str(REPOSITORY / "dags" / "pools.json")]):
                command = [sys.executable, "-m", "airflow", *arguments]
                subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
            (home / "ready").touch()
    return home / "airflow.db"


def only(dag_file: str, folder: Path, environment: dict[str, str]) -> dict[str, str]:
    """An environment in which Airflow finds one DAG file of the repository: `dag.test()` reads all that there are."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / "dags" / dag_file, folder)
    return environment | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder)}
