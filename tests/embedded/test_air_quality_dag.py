"""The DAG air_quality, run by Airflow on the embedded target, with a real generator, broker and Spark driver."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedded.broker import Broker
from millrace.kafka import load_topics
from millrace.targets.state import AppDirectory, signal_group
from tests.dags.conftest import REPOSITORY, airflow_database, only
from tests.topics import delete_topics

__all__ = ["airflow_database"]

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

CODE = """
import json
from air_quality import dag
dag.deadline = None
run = dag.test(run_conf={"hours": 1, "seed": 5, "pm25_limit": 20})
print(json.dumps({"run": run.state, **{ti.task_id: ti.state for ti in run.get_task_instances()}}))
"""


@dataclass
class Outcome:
    """The states of a run's tasks, what was logged, and what its report folder holds."""

    states: dict[str, str]
    log: str
    page: str
    alerts: list[dict[str, Any]]
    status: dict[str, Any]


@pytest.fixture(scope="module")
def outcome(
    airflow_database: dict[str, str], broker: Broker, spark_jars: Path, java_home: Path, submit_options: str
) -> Iterator[Outcome]:
    home = Path(tempfile.mkdtemp(prefix="millrace-test-air-"))
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
    environment = only("air_quality.py", home / "dags", environment)
    try:
        run = subprocess.run(
            [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False, timeout=540
        )
        assert run.returncode == 0, run.stdout + run.stderr
        (folder,) = (home / "storage" / "reports").iterdir()
        yield Outcome(
            states=json.loads(next(line for line in run.stdout.splitlines() if line.startswith('{"run"'))),
            log=run.stdout + run.stderr,
            page=(folder / "alerts.html").read_text(),
            alerts=json.loads((folder / "alerts.json").read_text()),
            status=json.loads((home / "apps" / "air-quality" / "status.json").read_text()),
        )
    finally:
        end_what_is_left(home)
        # The DAG makes every topic of the contract that is missing.
        delete_topics(broker.bootstrap_servers, *load_topics(REPOSITORY / "contracts/topics.yaml"))
        shutil.rmtree(home, ignore_errors=True)


def end_what_is_left(home: Path) -> None:
    """If the run was cut short: end its drivers, by the process ids that the target has noted."""
    for apps in (home / "apps").glob("*"):
        status = AppDirectory(apps).read_status()
        for key in ("runner", "driver"):
            signal_group(status.get(key), signal.SIGKILL)


def test_every_task_succeeds_and_nothing_is_left_running(outcome: Outcome) -> None:
    assert set(outcome.states.values()) == {"success"}, outcome.log
    assert outcome.status["state"] == "COMPLETED", outcome.log


def test_all_is_verified_and_the_alerts_are_shown(outcome: Outcome) -> None:
    windows = 6 * (60 + 4)  # stations, and minutes at which a window begins
    assert f"{windows} windows and {len(outcome.alerts)} alerts of 2160 readings, all as expected" in outcome.log
    assert f"Verified: all {windows:,} windows and {len(outcome.alerts):,} alerts are exactly right" in outcome.page
    assert outcome.alerts
    assert all(alert["pm25"] > alert["limit"] == 20 for alert in outcome.alerts)
    worst = max(outcome.alerts, key=lambda alert: alert["pm25"])
    assert f"{worst['location']}: " in outcome.log
    assert f"the worst {worst['pm25']:.1f} ug/m3 in the window of {worst['window_start']}" in outcome.log
