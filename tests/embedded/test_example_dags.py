"""hello_spark, kafka_spark_pipeline and batch_then_stream, run by Airflow on the embedded target and a real broker."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from embedded.broker import Broker
from millrace.kafka import load_topics
from tests.dags.conftest import REPOSITORY, airflow_database, run_python

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
        text = run_python(CODE.format(name=name, conf=conf), environment)
        states = next(line for line in reversed(text.splitlines()) if line.startswith('{"run"'))
        return json.loads(states), text

    yield test
    topics = list(load_topics(REPOSITORY / "contracts/topics.yaml"))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    for future in admin.delete_topics(topics).values():
        future.exception(30)
    shutil.rmtree(home, ignore_errors=True)


def test_hello_spark_counts_primes_and_shows_them(run: Run) -> None:
    states, log = run("hello_spark", limit=200_000, segments=4)
    assert states == {"run": "success", "count_primes": "success", "show_result": "success"}, log
    assert "There are 17984 primes up to 200000; the largest is 199999" in log


def test_kafka_spark_pipeline_keeps_the_adults(run: Run) -> None:
    states, log = run("kafka_spark_pipeline", people="Frank=18,Grace=3")
    assert set(states.values()) == {"success"}, log
    shown = log.partition("4 people kept, in output-topic")[2]
    assert [line.split()[0] for line in shown.splitlines()[3:7]] == ["Alice", "Charlie", "Eve", "Frank"]
    dropped = log.partition("3 people dropped, younger than 18")[2]
    assert [line.split()[0] for line in dropped.splitlines()[3:6]] == ["Bob", "Diana", "Grace"]


def test_batch_then_stream_joins_every_order_with_the_prices_of_the_day(run: Run) -> None:
    states, log = run("batch_then_stream", as_of="2026-02-01", orders=3000)
    assert set(states.values()) == {"success"}, log
    assert "both sinks are right" in log
