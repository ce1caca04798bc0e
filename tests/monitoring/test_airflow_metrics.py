"""What Airflow writes has, once it went through the real StatsD exporter, the names and labels that we promise.

Nothing here calls Airflow's code: its four components run, DAGs run in them, and a name is there only if one of them
or a task wrote it by itself. What takes a fault to be written gets that fault. A method that nothing calls any more can
thus not be taken for a metric that comes. The executor is the LocalExecutor: with the KubernetesExecutor it has in
common the base class, which writes the executor's metrics, and the program that runs a task, which writes the task's.
"""

import dataclasses
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import pytest
import yaml

from embedded.airflow import Airflow, airflow_environment, load_secrets
from embedded.paths import REPOSITORY
from embedded.ports import LOOPBACK, free_port
from embedded.settings import load_settings
from tests.cluster.waiting import eventually
from tests.dags.conftest import clean_environment
from tests.go_tools import go_tool
from tests.monitoring.conftest import answers, exposition, wait_until
from tests.monitoring.exposition import listed, served

pytestmark = pytest.mark.embedded

VALUES = yaml.safe_load((REPOSITORY / "k8s" / "releases" / "airflow-statsd-mappings.yaml").read_text())
RUN_SECONDS = 480
API_SERVER_LATE_SECONDS = 30
DAY_SECONDS = 86400

# `sample` misses its deadline while it runs; `lost` has a task whose supervisor is killed, as with a pod.
DAG_FILE = """
import os, signal, time
from datetime import datetime, timedelta
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperator, dag, task, task_group
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

class Deferred(BaseOperator):
    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=1)), method_name="go_on")

    def go_on(self, context, event):
        pass

started = {"schedule": "@daily", "start_date": datetime(2026, 1, 1), "catchup": False}
late = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT,
    interval=timedelta(seconds=1),
    callback=AsyncCallback("late.say_so"),
)

@dag(**started, deadline=late)
def sample():
    @task
    def succeeds(): time.sleep(2)

    @task_group
    def inner():
        @task
        def fails(): raise ValueError("on purpose")
        fails()

    succeeds() >> Deferred(task_id="is_deferred") >> inner()

@dag(**started)
def lost():
    @task
    def vanishes(): os.kill(os.getppid(), signal.SIGKILL)
    vanishes()

sample()
lost()
"""
CALLBACK = """
async def say_so(context):
    pass
"""


@pytest.fixture(scope="module")
def exporter(tmp_path_factory):
    """Where the exporter listens, and the address of what it makes of that."""
    with run_exporter(tmp_path_factory.mktemp("statsd"), VALUES["statsd"]["overrideMappings"]) as addresses:
        yield addresses


@contextmanager
def run_exporter(place, mappings):
    """Run the exporter with these mappings until the block ends."""
    file = place / "mappings.yml"
    file.write_text(yaml.safe_dump({"mappings": mappings}))
    listen, web = free_port(), free_port()
    command = [
        str(go_tool("statsd_exporter")),
        f"--statsd.mapping-config={file}",
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
    """What the exporter serves after each DAG of the file has run once."""
    listen, url = exporter
    home = tmp_path_factory.mktemp("airflow")
    dags = tmp_path_factory.mktemp("dags")
    (dags / "sample.py").write_text(DAG_FILE)
    modules = tmp_path_factory.mktemp("modules")
    (modules / "late.py").write_text(CALLBACK)
    settings = dataclasses.replace(
        load_settings({"MILLRACE_HOME": str(home), "AIRFLOW_PORT": str(free_port())}), dags=dags
    )
    environment = clean_environment(home) | airflow_environment(settings, load_secrets(settings), loop_seconds=0.1)
    environment |= {
        "PYTHONPATH": f"{environment['PYTHONPATH']}:{modules}",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__SCHEDULER__POOL_METRICS_INTERVAL": "0.1",
        "AIRFLOW__SCHEDULER__TI_METRICS_INTERVAL": "0.1",
        "AIRFLOW__SCHEDULER__DAGRUN_METRICS_INTERVAL": "0.1",
        # Long enough for tasks that live, on a machine that is busy with other tests: else one that begins slowly is
        # given up, and with it what its run would have counted.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "1",
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": LOOPBACK,
        "AIRFLOW__METRICS__STATSD_PORT": str(listen),
        **{f"AIRFLOW__METRICS__{name.upper()}": value for name, value in VALUES["config"]["metrics"].items()},
    }
    airflow = Airflow(settings, environment)
    airflow.launch()
    try:
        hold_back_api_server(airflow, API_SERVER_LATE_SECONDS)
        return wait_for_runs(airflow, url)
    finally:
        airflow.stop()


def hold_back_api_server(airflow, seconds):
    """As on a machine so busy that the server listens long after the tasks have begun; they wait for it."""
    pid = eventually(lambda: airflow.processes().get("api-server"), "Airflow's processes", RUN_SECONDS)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)


def wait_for_runs(airflow, url):
    """What the exporter serves once a run of each DAG has ended and no task is queued."""

    def at_the_end():
        assert airflow.running, airflow.why_ended()
        text = exposition(url)
        runs = [values(text, "airflow_dagrun_duration_seconds_count", dag_id=name) for name in ("sample", "lost")]
        return all(runs) and not any(values(text, "airflow_ti_queued")) and text

    def logs():
        return "\n".join(f"{log}: {log.read_text()[-2000:]}" for log in sorted(airflow.settings.logs.glob("*.log")))

    return eventually(at_the_end, "the end of the runs", RUN_SECONDS, every=0.5, else_=logs)


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


def test_what_is_queued_is_counted_and_so_is_each_start(text):
    """From both comes how long a wait is; a task that was deferred is queued, and starts, once more."""
    # Counted every 0.1 s, and with no pod to start a task is queued for about as long: not each one is seen.
    queued = values(text, "airflow_ti_queued", dag_id="sample")
    assert queued
    assert set(queued) == {0}
    for task, starts in (("succeeds", 1), ("is_deferred", 2), ("inner.fails", 1)):
        assert values(text, "airflow_ti_start_total", dag_id="sample", task_id=task) == [starts]


def test_a_number_of_queued_tasks_that_is_not_renewed_goes_away(tmp_path):
    """A scheduler that starts anew does not take back what the last one wrote."""
    mappings = [{**each, "ttl": "1s"} if "ttl" in each else each for each in VALUES["statsd"]["overrideMappings"]]
    with (
        run_exporter(tmp_path, mappings) as (listen, url),
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line,
    ):
        line.sendto(b"airflow.ti.queued,dag_id=sample,task_id=a,queue=default:1|g", (LOOPBACK, listen))
        eventually(lambda: values(exposition(url), "airflow_ti_queued") == [1], "the number", 30)
        eventually(lambda: not values(exposition(url), "airflow_ti_queued"), "the number to go away", 30)


def test_durations_are_seconds(text):
    [duration] = values(text, "airflow_task_duration_seconds_sum", task_id="succeeds")
    assert 2 <= duration < 60
    [delay] = values(text, "airflow_dagrun_schedule_delay_seconds_sum", dag_id="sample")
    # It was due at midnight (UTC).
    assert (time.time() - delay) % DAY_SECONDS < RUN_SECONDS + 60
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
