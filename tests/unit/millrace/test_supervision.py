"""The supervisor: restarts, never two drivers at once, stopping, and what is left when processes are killed."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millrace import storage
from millrace.config import load_settings
from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.targets import embedded, supervision
from millrace.targets.embedded import EmbeddedTarget
from millrace.targets.state import is_held
from tests.unit.millrace.conftest import Application, eventually, lives

ALWAYS = "{type: Always, onFailureRetryInterval: 0}"


def test_driver_that_is_killed_is_started_again(application: Application) -> None:
    application.start(policy="{type: OnFailure, onFailureRetries: 1, onFailureRetryInterval: 0}")
    first = application.wait_for_starts(1)[0]
    os.kill(first, signal.SIGKILL)
    second = application.wait_for_starts(2)[1]
    eventually(lambda: application.target.application_status("sample").tries == 2)
    status = application.target.application_status("sample")
    assert (status.state, status.owner) == ("RUNNING", "dag/run")
    assert lives(second)
    assert second != first
    assert not application.overlapped()
    log, end = application.target.driver_log("sample")
    assert f"driver {first}" in log
    assert f"driver {second}" in log
    assert application.target.driver_log("sample", end) == ("", end)
    assert application.target.driver_log("sample", end - 3) == (log[-3:], end)


def test_each_try_gets_a_metrics_address_that_the_status_names(application: Application) -> None:
    application.start(policy=ALWAYS)
    os.kill(application.wait_for_starts(1)[0], signal.SIGKILL)
    application.wait_for_starts(2)
    eventually(lambda: application.target.application_status("sample").tries == 2)
    url = application.target.application_status("sample").metrics_url
    assert url == f"http://{application.addresses()[1]}"
    assert application.addresses()[1].startswith("127.0.0.1:")


def test_what_a_killed_driver_leaves_is_gone_before_the_next_one_starts_and_after_the_last(
    application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", "-Xss4m")
    application.start(policy="{type: OnFailure, onFailureRetries: 3, onFailureRetryInterval: 0}")
    os.kill(application.wait_for_starts(1)[0], signal.SIGKILL)
    application.wait_for_starts(2)
    application.target.stop_application("sample", timeout=10)
    places = [line.split(" ", 2) for line in (tmp_path / "scratch").read_text().splitlines()]
    folder = application.directory.temporary
    # In a folder of its own, for Java as well, with nothing in it but what this very driver has made.
    assert [(Path(scratch).parent, number) for scratch, number, _ in places] == [(folder, "1")] * 2
    assert {options for _, _, options in places} == {f"-Djava.io.tmpdir={folder} -Xss4m"}
    assert not folder.exists()


def test_failures_are_limited_by_the_policy(application: Application) -> None:
    application.start(behaviour="exit3", policy="{type: OnFailure, onFailureRetries: 2, onFailureRetryInterval: 0}")
    eventually(lambda: application.state() == "FAILED")
    status = application.target.application_status("sample")
    assert status.tries == len(application.starts()) == 3
    assert "exit code 3" in status.message
    assert status.metrics_url is None


@pytest.mark.parametrize(("code", "state"), [(0, "COMPLETED"), (1, "FAILED")])
def test_policy_never_starts_once(application: Application, code: int, state: str) -> None:
    application.start(behaviour=f"exit{code}")
    eventually(lambda: application.state() == state)
    assert len(application.starts()) == 1


def test_policy_always_goes_on_after_success(application: Application) -> None:
    application.start(behaviour="exit0", policy=ALWAYS)
    application.wait_for_starts(3)
    assert application.target.stop_application("sample", 20).state == "COMPLETED"
    ended = len(application.starts())
    time.sleep(0.3)
    assert len(application.starts()) == ended
    assert not application.overlapped()


def test_waiting_for_the_next_try_can_be_stopped(application: Application) -> None:
    application.start(behaviour="exit1", policy="{type: Always, onFailureRetryInterval: 3600}")
    eventually(lambda: application.state() == "PENDING_RERUN")
    status = application.target.stop_application("sample", 20)
    assert status.state == "COMPLETED"
    assert "between two tries" in status.message


def test_starting_again_is_left_to_the_running_one(application: Application) -> None:
    application.start()
    runner = application.directory.read_status()["runner"]
    application.start()
    assert application.directory.read_status()["runner"] == runner
    assert len(application.wait_for_starts(1)) == 1
    with pytest.raises(OwnedByAnotherError, match=r"sample is already run by dag/run"):
        application.start(owner="dag/other")
    assert len(application.starts()) == 1


def test_many_starters_make_one_driver(application: Application) -> None:
    application.start(behaviour="exit0")  # Warms up imports; ends at once.
    eventually(lambda: application.state() == "COMPLETED")
    before = len(application.starts())
    application.prepare("wait")
    with ThreadPoolExecutor(8) as pool:
        start = application.target.start_application
        for result in [pool.submit(start, application.manifest, "dag/run") for _ in range(8)]:
            result.result()
    application.wait_for_starts(before + 1)
    time.sleep(0.3)
    assert len(application.starts()) == before + 1
    assert not application.overlapped()


def test_killed_supervisor_leaves_no_room_for_a_second_driver(application: Application) -> None:
    application.start(policy=ALWAYS)
    first = application.wait_for_starts(1)[0]
    eventually(lambda: application.state() == "RUNNING")
    application.kill("runner")
    assert lives(first)
    assert is_held(application.directory.lock)
    status = application.target.application_status("sample")
    assert status.state == "RUNNING"
    assert "supervisor was killed" in status.message
    with pytest.raises(OwnedByAnotherError):
        application.start(owner="dag/other")
    application.start()  # The same owner: the old driver ends gracefully, then a new one starts.
    assert len(application.wait_for_starts(2)) == 2
    assert not application.overlapped()
    assert not lives(first)


def test_everything_killed_is_a_failure_that_can_be_started_again(application: Application) -> None:
    application.start()
    application.wait_for_starts(1)
    eventually(lambda: application.state() == "RUNNING")
    application.kill("runner")
    application.kill("driver")
    status = application.target.application_status("sample")
    assert status.state == "FAILED"
    assert "were killed" in status.message
    application.start()
    application.wait_for_starts(2)
    assert application.target.application_status("sample").tries == 2


def test_another_owner_begins_at_one_with_an_empty_log(application: Application) -> None:
    application.start(behaviour="exit0")
    eventually(lambda: application.state() == "COMPLETED")
    application.start(owner="dag/next")
    new = application.wait_for_starts(2)[1]
    eventually(lambda: application.target.application_status("sample").tries == 1)
    log, _ = application.target.driver_log("sample")
    assert "for dag/next" in log
    assert f"driver {application.starts()[0]}" not in log
    assert lives(new)


def test_stop_lets_the_driver_end_by_itself(application: Application) -> None:
    application.start(policy=ALWAYS)
    application.wait_for_starts(1)
    status = application.target.stop_application("sample", 20)
    assert status.state == "COMPLETED"
    assert "stopped as asked" in status.message
    assert not is_held(application.directory.lock)
    assert application.target.stop_application("sample", 20) == status
    application.start()  # The control file of the last stop must not end the new driver.
    application.wait_for_starts(2)
    time.sleep(0.3)
    assert application.state() == "RUNNING"


def test_stop_uses_force_in_the_end_and_says_so(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FORCE_TIMEOUT", 0.5)
    application.start(behaviour="stubborn", policy=ALWAYS)
    pid = application.wait_for_starts(1)[0]
    status = application.target.stop_application("sample", 0.5)
    assert status.state == "FAILED"
    assert "did not stop within 0.5 s" in status.message
    assert "SIGKILL" in status.message
    assert not lives(pid)


def test_force_without_supervisor_is_recorded_too(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FORCE_TIMEOUT", 5)
    application.start(behaviour="stubborn")
    application.wait_for_starts(1)
    eventually(lambda: application.state() == "RUNNING")
    application.kill("runner")
    monkeypatch.setattr(supervision, "FORCE_TIMEOUT", 0.5)
    status = application.target.stop_application("sample", 0.2)
    assert status.state == "FAILED"
    assert "did not stop within 0.2 s" in status.message


def test_stop_does_nothing_where_nothing_runs(target: EmbeddedTarget) -> None:
    assert target.stop_application("sample", 5).state == ""
    assert target.stop_job("replay", 5).state == ""


def test_stop_leaves_another_owners_application_alone(application: Application) -> None:
    application.start()
    pid = application.wait_for_starts(1)[0]
    with pytest.raises(OwnedByAnotherError, match="belongs to dag/run"):
        application.target.stop_application("sample", 5, owner="dag/other")
    time.sleep(0.3)
    assert lives(pid)
    assert not storage.stop_file("sample").exists()


def test_supervisor_that_is_told_to_end_ends_its_driver(application: Application) -> None:
    application.start(policy=ALWAYS)
    pid = application.wait_for_starts(1)[0]
    eventually(lambda: application.state() == "RUNNING")
    os.kill(int(application.directory.read_status()["runner"]["pid"]), signal.SIGTERM)
    eventually(lambda: not is_held(application.directory.lock))
    assert not lives(pid)
    assert "SIGTERM" in application.target.application_status("sample").message
    assert len(application.starts()) == 1


def test_application_outlives_its_starter(home: Path, tmp_path: Path) -> None:
    """A starter in a process of its own, as an Airflow task is."""
    code = (
        "import sys; from millrace.targets import get_target; from millrace.targets.base import JobSpec;"
        "get_target().start_job(JobSpec('sleeper', 'sleeper', env={'PYTHONPATH': sys.argv[1]}), 'dag/run')"
    )
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(600)")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment, start_new_session=True)
    target = EmbeddedTarget(load_settings())
    assert target.job_status("sleeper").state == "RUNNING"
    pid = int(target._directory("sleeper").read_status()["runner"]["pid"])
    assert os.getsid(pid) == pid
    assert target.stop_job("sleeper", 20).state == "STOPPED"
    assert not lives(pid)


def test_supervisor_without_spec_or_lock_says_so(application: Application, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "millrace.targets.runner"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr.count("\n")) == (2, 1)
    assert "spec.json is missing" in run.stderr
    application.start()
    application.wait_for_starts(1)
    command.append(str(application.directory.path))
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr.count("\n")) == (3, 1)
    assert "in use by another" in run.stderr
    assert len(application.starts()) == 1


def test_program_that_does_not_exist_is_a_failed_try(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    application.start(behaviour="exit0")
    eventually(lambda: application.state() == "COMPLETED")
    monkeypatch.setattr(embedded, "submit_command", lambda *_: ["/nonexistent/spark-submit"])
    application.target.start_application(application.manifest, "dag/run")
    eventually(lambda: application.state() == "FAILED")
    assert "cannot start /nonexistent/spark-submit" in application.target.driver_log("sample")[0]


def test_home_that_can_not_be_written_is_one_sentence(
    application: Application, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    home.write_text("a file where a folder should be")
    with pytest.raises(MillraceError, match=r"Cannot start sample in .*; check that disk"):
        application.start()
