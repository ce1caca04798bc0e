"""DAG files are parsed again and again: they must be quick, light, and must not touch anything."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import REPOSITORY, clean_environment, run_python

SECONDS = 10.0
"""For one DAG file after Airflow itself, on a machine that is busy with other tests."""
HEAVY = (
    "confluent_kafka",
    "deltalake",
    "duckdb",
    "exchange_calendars",
    "kubernetes",
    "pandas",
    "plotly",
    "pointblank",
    "polars",
    "pyspark",
    "sklearn",
)

# An audit hook sees what the interpreter does, however it is called. Each file is imported by a fork of an interpreter
# that has imported Airflow itself.
CODE = """
import importlib, json, os, sys, time, traceback
import airflow.sdk
import airflow.triggers.base
import croniter  # Airflow imports it with the first DAG, and it looks at the interpreter's file.
sys.dont_write_bytecode = True  # Python's own cache of what it compiles, in a checkout that is new
seen = []
def hook(event, arguments):
    if event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess.", "os.system", "os.mkdir", "os.remove")):
        seen.append(f"{event} {arguments}")
    if event == "open" and arguments[1] and set(arguments[1]) & set("wax+"):
        if not str(arguments[0]).rpartition(".")[2].startswith("pyc"):
            seen.append(f"open {arguments[0]} for writing")
def look(name):
    before = set(sys.modules)
    sys.addaudithook(hook)
    began = time.monotonic()
    try:
        importlib.import_module(name)
    except Exception:
        seen.append(traceback.format_exc())
    seconds = time.monotonic() - began
    modules = sorted(set(sys.modules) - before)
    print(json.dumps({"name": name, "seconds": seconds, "seen": seen, "modules": modules}), flush=True)
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        look(name)
        os._exit(0)
    os.waitpid(child, 0)
"""


def dag_files() -> list[str]:
    return sorted(path.stem for path in (REPOSITORY / "dags").glob("*.py"))


@pytest.fixture(scope="module")
def imports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the import of each DAG file did."""
    environment = clean_environment(tmp_path_factory.mktemp("imports"))
    lines = run_python(CODE, environment, *dag_files()).splitlines()
    return {found["name"]: found for found in map(json.loads, filter(lambda line: line.startswith("{"), lines))}


@pytest.mark.parametrize("name", dag_files())
def test_import_is_quick_light_and_touches_nothing(name: str, imports: dict[str, dict[str, Any]]) -> None:
    found = imports[name]
    assert found["seen"] == []
    assert [module for module in found["modules"] if module.split(".")[0] in HEAVY] == []
    assert found["seconds"] < SECONDS


def test_airflow_parses_every_file_without_an_error(airflow_database: dict[str, str]) -> None:
    code = (
        "import json\n"
        "from airflow.dag_processing.dagbag import DagBag\n"
        "from airflow.serialization.serialized_objects import DagSerialization\n"
        "bag = DagBag()\n"
        "for dag in bag.dags.values(): DagSerialization.from_dict(DagSerialization.to_dict(dag))\n"
        "print(json.dumps({'errors': bag.import_errors, 'dags': sorted(bag.dags)}))"
    )
    found = json.loads(run_python(code, airflow_database).splitlines()[-1])
    assert found["errors"] == {}
    # One DAG for each file, of the same name.
    assert set(found["dags"]) == set(dag_files()) > {"batch_layer", "ml_training", "streaming_pipeline"}


def test_bad_retry_delay_is_named_in_the_import_error(tmp_path: Path) -> None:
    code = (
        "from millrace.errors import MillraceError\n"
        "try: import streaming_pipeline\n"
        "except MillraceError as error: print(error)"
    )
    printed = run_python(code, clean_environment(tmp_path) | {"MILLRACE_RETRY_DELAY_SECONDS": "soon"})
    assert "MILLRACE_RETRY_DELAY_SECONDS is 'soon'" in printed
