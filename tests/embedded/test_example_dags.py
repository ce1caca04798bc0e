"""hello_spark, kafka_spark_pipeline and batch_then_stream, run by Airflow on the embedded target and a real broker."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded.broker import Broker
from millrace.kafka import load_topics
from tests.dags.conftest import REPOSITORY, airflow_database, only
from tests.topics import delete_topics

__all__ = ["airflow_database"]

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

CODE = """
import json
from {name} import dag
dag.deadline = None
run = dag.test(run_conf={conf!r})
print(json.dumps({{"run": run.state, **{{ti.task_id: ti.state for ti in run.get_task_instances()}}}}))
"""

Run = Callable[..., tuple[dict[str, str], str]]


@pytest.fixture
def run(
    airflow_database: dict[str, str], broker: Broker, spark_jars: Path, java_home: Path, submit_options: str
) -> Iterator[Run]:
    """Run a DAG with parameters; returns the states of the run and of its tasks, and all that was logged."""
    home = Path(tempfile.mkdtemp(prefix="millrace-test-dags-"))
    connection = {"conn_type": "kafka", "extra": {"bootstrap.servers": broker.bootstrap_servers}}
    environment = airflow_database | {
        "MILLRACE_HOME": str(home),
        "MILLRACE_STORAGE": f"file://{home}/storage",
        "MILLRACE_SPARK_JARS": str(spark_jars),
        "MILLRACE_RETRY_DELAY_SECONDS": "1",
        "JAVA_HOME": str(java_home),
        "SPARK_SUBMIT_OPTS": submit_options,
        "KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "AIRFLOW_CONN_KAFKA_DEFAULT": json.dumps(connection),
    }

    def test(name: str, **conf: Any) -> tuple[dict[str, str], str]:
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(name=name, conf=conf)],
            env=only(f"{name}.py", home / "dags", environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=540,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        states = next(line for line in reversed(done.stdout.splitlines()) if line.startswith('{"run"'))
        return json.loads(states), done.stdout

    yield test
    topics = list(load_topics(REPOSITORY / "contracts/topics.yaml"))
    delete_topics(broker.bootstrap_servers, *topics)
    shutil.rmtree(home, ignore_errors=True)


def test_hello_spark_counts_primes_and_shows_them(run: Run) -> None:
    states, log = run("hello_spark", limit=200_000, segments=4)
    assert states == {"run": "success", "count_primes": "success", "show_result": "success"}, log
    assert "There are 17984 primes up to 200000; the largest is 199999" in log


def test_kafka_spark_pipeline_keeps_the_adults(run: Run) -> None:
    states, log = run("kafka_spark_pipeline", people="Frank=18,Grace=3")
    assert set(states.values()) == {"success"}, log
    assert people_in(log, "4 people kept, in output-topic", 4) == ["Alice", "Charlie", "Eve", "Frank"]
    assert people_in(log, "3 people dropped, younger than 18", 3) == ["Bob", "Diana", "Grace"]


def people_in(log: str, title: str, number: int) -> list[str]:
    """The first names in the table that the log shows below a title."""
    assert title in log, log
    return re.findall("Alice|Bob|Charlie|Diana|Eve|Frank|Grace", log.partition(title)[2])[:number]


def test_batch_then_stream_joins_every_order_with_the_prices_of_the_day(run: Run) -> None:
    states, log = run("batch_then_stream", as_of="2026-02-01", orders=3000)
    assert set(states.values()) == {"success"}, log
    assert "both sinks are right" in log
