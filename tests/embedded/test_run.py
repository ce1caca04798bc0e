"""The whole thing, as a user types it: run, interrupt it anywhere, kill its parts, run it again."""

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import httpx
import psutil
import pytest

from embedded.processes import command_line, members
from tests.embedded.conftest import CommandLine, interrupt, output, wait_until

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(600)]

DAYS = "2"


@pytest.fixture(scope="module")
def home(jar_cache: Path, spark_jars: Path) -> Iterator[Path]:
    """One home for all of these: each test finds it as another left it, which is part of what is tested."""
    directory = Path(tempfile.mkdtemp(prefix="millrace-test-home-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def millrace(home: Path, jar_cache: Path) -> Iterator[CommandLine]:
    command_line = CommandLine(home, jar_cache)
    yield command_line
    command_line.close()


def summary_of(text: str) -> dict:
    """The summary that a run wrote, found by the report it named."""
    report = next(line.partition("Report: ")[2] for line in text.splitlines() if "Report: " in line)
    assert "<html" in Path(report).read_text()[:200]
    return json.loads((Path(report).parent / "summary.json").read_text())


def kafka_process(instance: str) -> psutil.Process | None:
    return next((one for one in members(instance) if "kafka.Kafka" in command_line(one)), None)


def assert_nothing_left(millrace: CommandLine) -> None:
    for instance in millrace.instances:
        assert members(instance) == []
    assert not (millrace.home / "instance.json").exists()


MOMENTS: dict[str, Callable[[CommandLine, "Popen[str]"], object]] = {
    "home claimed": lambda millrace, process: millrace.instance(),
    "parts launched": lambda millrace, process: kafka_process(millrace.instance() or ""),
    "components forked": lambda millrace, process: "Kafka serves" in output(process),
    "run started": lambda millrace, process: "Started streaming_pipeline" in output(process),
    "driver starts": lambda millrace, process: "start_streaming: watching" in output(process),
    "stream runs": lambda millrace, process: "monitor_pipeline: watching" in output(process),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted(millrace: CommandLine, moment: str) -> None:
    process = millrace.start("run", "--days", DAYS, "--pace", "5000")
    wait_until(lambda: MOMENTS[moment](millrace, process), 300, process)
    millrace.instance()
    # Twice, as an impatient user does: the second must not cut the clean-up short.
    interrupt(process, times=2)
    assert process.wait(90) == 130, output(process)
    assert "Traceback" not in output(process)
    assert millrace.instances
    assert_nothing_left(millrace)


def test_interrupted_while_it_shuts_down_then_kafka_is_killed_then_the_same_again_with_resume(
    millrace: CommandLine,
) -> None:
    process = millrace.start("run", "--days", DAYS)
    wait_until(lambda: "start_streaming: watching" in output(process), 300, process)
    millrace.instance()
    os.kill(process.pid, signal.SIGTERM)
    wait_until(lambda: "Stopping everything." in output(process), process=process)
    interrupt(process, times=3)
    assert process.wait(90) == 130, output(process)
    assert "Stopping already" in output(process)
    assert_nothing_left(millrace)

    # At this pace the replay takes some 12 s, so that the broker dies in the middle of it.
    following = millrace.start("run", "--days", DAYS, "--pace", "15000")
    wait_until(millrace.instance, process=following)
    wait_until(lambda: "stream: events in" in output(following), process=following)
    broker = kafka_process(millrace.instance() or "")
    assert broker is not None
    broker.kill()
    assert following.wait(300) == 0, output(following)
    text = output(following)
    assert "Kafka has ended unexpectedly; starting it again on the same data." in text
    assert "Success: every task succeeded and every window is exactly right." in text
    first = summary_of(text)
    assert first["verification_passed"] is True
    assert_nothing_left(millrace)

    again = millrace.start("run", "--days", DAYS, "--resume")
    wait_until(millrace.instance, process=again)
    assert again.wait(300) == 0, output(again)
    second = summary_of(output(again))
    assert (second["windows"], second["events_by_type"]) == (first["windows"], first["events_by_type"])
    assert second["records_already_there"] == first["records_sent"] + first["records_already_there"]
    assert_nothing_left(millrace)


def test_up_refuses_a_second_and_down_cleans_up_after_a_kill(millrace: CommandLine) -> None:
    started = millrace.run("up", timeout=150)
    assert started.returncode == 0, started.stdout + started.stderr
    instance = millrace.instance()
    assert instance is not None
    record = json.loads((millrace.home / "instance.json").read_text())

    assert millrace.run("up").returncode == 0
    refused = millrace.run("run")
    assert refused.returncode == 1
    assert refused.stderr.startswith("millrace: Another `make up` is running")
    assert f"(process {record['pid']}, since" in refused.stderr
    assert "Another `make up`" in millrace.run("clean", "--yes").stderr

    status = millrace.run("status")
    assert status.returncode == 0
    for part in ("supervisor", "kafka", "airflow api-server", "airflow scheduler", "airflow triggerer"):
        assert part in status.stdout
    assert "kafka.log" in millrace.run("logs", "kafka").stdout
    port = millrace.environment["AIRFLOW_PORT"]
    assert httpx.get(f"http://127.0.0.1:{port}/api/v2/monitor/health", trust_env=False).status_code == 200
    assert httpx.get(f"http://127.0.0.1:{port}/api/v2/dags", trust_env=False).status_code == 401
    for secret in ("secrets.json", "passwords.json"):
        assert (millrace.home / "airflow" / secret).stat().st_mode & 0o777 == 0o600
    for process in (psutil.Process(record["pid"]), *members(instance)):
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::ffff:127.0.0.1", "::1"), command_line(process)

    broker = kafka_process(instance)
    assert broker is not None
    broker.kill()
    wait_until(lambda: "Kafka serves again" in (millrace.home / "logs" / "supervisor.log").read_text(), 60)

    os.kill(record["pid"], signal.SIGKILL)
    wait_until(lambda: not psutil.pid_exists(record["pid"]))
    left = millrace.run("status")
    assert left.returncode == 3
    assert "A killed run left" in left.stdout
    assert members(instance)
    stopped = millrace.run("down")
    assert stopped.returncode == 0, stopped.stderr
    assert_nothing_left(millrace)
    assert "Nothing runs" in millrace.run("down").stdout


def test_two_runs_at_once(millrace: CommandLine) -> None:
    first = millrace.start("run", "--days", DAYS)
    wait_until(millrace.instance, process=first)
    second = millrace.run("run", "--days", DAYS)
    assert second.returncode == 1
    assert "Another `make run` is running" in second.stderr
    assert f"(process {first.pid}, since" in second.stderr
    assert first.poll() is None
    # `make down` in another terminal stops it as Ctrl-C does.
    assert millrace.run("down", timeout=90).returncode == 0
    assert first.wait(10) == 130, output(first)
    assert_nothing_left(millrace)
