"""What Airflow writes has, once it went through the real StatsD exporter, the names and labels that we promise."""

import subprocess
import sys

import pytest
import yaml

from embedded.paths import REPOSITORY
from embedded.ports import LOOPBACK, free_port
from tests.dags.conftest import clean_environment, run_python
from tests.go_tools import go_tool
from tests.monitoring.conftest import answers, exposition, wait_until
from tests.monitoring.exposition import listed, served

pytestmark = pytest.mark.embedded

VALUES = yaml.safe_load((REPOSITORY / "k8s" / "releases" / "airflow-statsd-mappings.yaml").read_text())

DAG_FILE = """
from datetime import datetime
from airflow.sdk import dag, task, task_group

@dag(schedule=None, start_date=datetime(2026, 1, 1))
def sample():
    @task
    def succeeds(): pass

    @task_group
    def inner():
        @task
        def fails(): raise ValueError("on purpose")
        fails()

    succeeds() >> inner()

sample()
"""

# The run's own records of the database. Then what takes a fault to happen: a call each, as Airflow's own code makes it.
CODE = """
from datetime import timedelta
from sqlalchemy import select
from airflow._shared.observability.metrics import stats
from airflow._shared.observability.metrics.metrics_registry import MetricsRegistry
from airflow._shared.timezones import timezone
from airflow.configuration import conf
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.observability.metrics import stats_utils
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState

both = conf.getboolean("metrics", "legacy_names_on")
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=both)
with create_session() as session:
    run = session.scalars(select(DagRun)).one()
    run.end_date = run.end_date or timezone.utcnow()
    run._emit_duration_stats_for_finished_state()
    for instance in session.scalars(select(TaskInstance)):
        instance.end_date, instance.queued_dttm = None, timezone.utcnow() - timedelta(seconds=3)
        instance.emit_state_change_metric(TaskInstanceState.RUNNING)
    session.rollback()

task = {"dag_id": "sample", "task_id": "inner.fails"}
calls = [
    (stats.incr, "deadline_alerts.deadline_missed", 1, {"dag_id": "sample", "dagrun_id": "manual__2026"}),
    (stats.incr, "task_instances_without_heartbeats_killed", 1, task),
    (stats.incr, "triggerer_heartbeat", 1, {}),
    (stats.gauge, "triggers.running", 2, {"hostname": "triggerer-0"}),
    (stats.gauge, "pool.starving_tasks", 1, {"pool_name": "streaming_pool"}),
    (stats.timing, "dagrun.schedule_delay", timedelta(seconds=4), {"dag_id": "sample"}),
    (stats.timing, "dagrun.sample.first_task_scheduling_delay", timedelta(seconds=4), {"dag_id": "sample"}),
]
for call, name, value, tags in calls:
    assert "sample" in name or MetricsRegistry().get(name), name
    call(name, value, tags=tags)
"""


@pytest.fixture(scope="module")
def exporter(tmp_path_factory):
    """Where the exporter listens, and the address of what it makes of that."""
    place = tmp_path_factory.mktemp("statsd")
    mappings = place / "mappings.yml"
    mappings.write_text(yaml.safe_dump({"mappings": VALUES["statsd"]["overrideMappings"]}))
    listen, web = free_port(), free_port()
    command = [
        str(go_tool("statsd_exporter")),
        f"--statsd.mapping-config={mappings}",
        f"--statsd.listen-udp={LOOPBACK}:{listen}",
        "--statsd.listen-tcp=",
        f"--web.listen-address={LOOPBACK}:{web}",
    ]
    log = place / "log"
    url = f"http://{LOOPBACK}:{web}/metrics"
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: answers(url), process, log)
            yield listen, url
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def text(exporter, tmp_path_factory):
    """What the exporter serves after a DAG file was read, its DAG run, and the scheduler went some rounds."""
    listen, url = exporter
    dags = tmp_path_factory.mktemp("dags")
    (dags / "sample.py").write_text(DAG_FILE)
    settings = {f"AIRFLOW__METRICS__{name.upper()}": value for name, value in VALUES["config"]["metrics"].items()}
    environment = clean_environment(tmp_path_factory.mktemp("airflow")) | {
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PARALLELISM": "1",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "0",
        "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "0",
        "AIRFLOW__SCHEDULER__POOL_METRICS_INTERVAL": "0.1",
        "AIRFLOW__SCHEDULER__DAGRUN_METRICS_INTERVAL": "0.1",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": LOOPBACK,
        "AIRFLOW__METRICS__STATSD_PORT": str(listen),
        **settings,
    }
    for arguments, fails in (
        (["db", "migrate"], False),
        (["dag-processor", "--num-runs", "1"], False),
        (["dags", "test", "sample"], True),
        (["scheduler", "--num-runs", "5"], False),
    ):
        command = [sys.executable, "-m", "airflow", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert fails or done.returncode == 0, done.stderr[-2000:]
    run_python(CODE, environment)
    return exposition(url)


@pytest.fixture(scope="module")
def metrics(text):
    return served(text)


def values(text, name, **labels):
    """The samples of a metric that have these labels."""
    wanted = {f'{label}="{value}"' for label, value in labels.items()}
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return [float(line.rpartition(" ")[2]) for line in lines if all(each in line for each in wanted)]


def test_what_is_listed_is_there_with_these_labels(metrics):
    expected = listed("airflow")
    assert expected.keys() <= metrics.keys()
    assert {name: metrics[name] for name in expected} == expected


def test_a_task_keeps_its_dag_and_its_name_with_the_dots_of_its_group(text):
    assert values(text, "airflow_ti_finish_total", dag_id="sample", task_id="succeeds", state="success") == [1]
    assert values(text, "airflow_ti_finish_total", dag_id="sample", task_id="inner.fails", state="failed") == [1]
    assert len(values(text, "airflow_task_duration_seconds_count", dag_id="sample", task_id="inner.fails")) == 1


def test_durations_are_seconds(text):
    [queued] = values(text, "airflow_task_queued_duration_seconds_sum", task_id="inner.fails")
    assert 3 <= queued < 60
    assert values(text, "airflow_dagrun_schedule_delay_seconds_sum") == [4]
    # Airflow gives the duration of one file in seconds where it should be thousandths. Of all (it was one) it is right.
    [one] = values(text, "airflow_dag_processing_last_duration_seconds_sum")
    [all_of_them] = values(text, "airflow_dag_processing_total_parse_time")
    assert one > all_of_them / 50


def test_a_run_has_its_state_and_not_its_id(metrics, text):
    assert values(text, "airflow_dagrun_duration_seconds_count", dag_id="sample", state="failed") == [1]
    names = frozenset().union(*metrics.values())
    assert not names & {"run_id", "dagrun_id", "job_id"}


def test_no_name_has_the_name_of_a_dag_in_it(metrics):
    assert not [name for name in metrics if name.startswith("airflow") and ("sample" in name or "succeeds" in name)]


def test_the_exporter_understood_every_line(text):
    assert values(text, "statsd_exporter_lines_total")[0] > 50
    assert sum(values(text, "statsd_exporter_sample_errors_total")) == 0
    assert sum(values(text, "statsd_exporter_tag_errors_total")) == 0
    assert sum(values(text, "statsd_exporter_events_conflict_total")) == 0
    assert sum(values(text, "statsd_exporter_events_error_total")) == 0


def test_the_scheduler_s_rounds_are_timed(text):
    assert values(text, "airflow_scheduler_scheduler_loop_duration_seconds_count")[0] >= 5
    assert values(text, "airflow_pool_open_slots", pool_name="default_pool")


def test_the_file_gives_the_chart_nothing_else():
    assert set(VALUES) == {"config", "statsd"}
    assert set(VALUES["config"]) == {"metrics"}
