"""The embedded target: jobs, progress, environments, and what it refuses."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest

from millrace.config import Settings, load_settings
from millrace.errors import MillraceError
from millrace.targets import embedded, get_target
from millrace.targets.base import JobSpec
from millrace.targets.embedded import EmbeddedTarget
from millrace.targets.supervision import child_environment, require_java
from tests.unit.millrace.conftest import MANIFEST, Application, eventually, lives

JOB = """
import json, os, signal, sys, time
from pathlib import Path
mode, status_file = sys.argv[1], Path(sys.argv[sys.argv.index("--status-file") + 1])
print("job", mode, flush=True)
if mode == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Path("ready").touch()
    time.sleep(600)
if mode == "fail":
    sys.exit("no such range")
status_file.write_text(json.dumps({"sent": 5, "environment": dict(os.environ)}))
"""

SERVER = """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"application": "sample", "path": self.path, "queries": []}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
HTTPServer((os.environ["MILLRACE_METRICS_HOST"], int(os.environ["MILLRACE_METRICS_PORT"])), Handler).serve_forever()
"""


def job(folder: Path, mode: str) -> JobSpec:
    (folder / "sample_job.py").write_text(JOB)
    return JobSpec(
        name="replay",
        module="sample_job",
        arguments=[mode],
        env={"PYTHONPATH": str(folder), "MADE_BY": "test"},
        status_file_argument="--status-file",
    )


def test_job_runs_to_its_end_and_its_status_file_is_the_result(
    target: EmbeddedTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    target.start_job(job(tmp_path, "work"), "dag/run")
    eventually(lambda: target.job_status("replay").state == "SUCCEEDED")
    status = target.job_status("replay")
    assert status.result is not None
    assert status.result["sent"] == 5
    assert status.result["environment"]["MADE_BY"] == "test"
    assert not [name for name in status.result["environment"] if "AIRFLOW" in name]
    assert "job work" in target.job_log("replay")[0]


def test_failed_job_says_how_it_ended(target: EmbeddedTarget, tmp_path: Path) -> None:
    target.start_job(job(tmp_path, "fail"), "dag/run")
    eventually(lambda: target.job_status("replay").state == "FAILED")
    assert "exit code 1" in target.job_status("replay").message
    assert "no such range" in target.job_log("replay")[0]


def test_job_of_the_next_owner_does_not_show_the_result_of_the_last(target: EmbeddedTarget, tmp_path: Path) -> None:
    target.start_job(job(tmp_path, "work"), "dag/one")
    eventually(lambda: target.job_status("replay").state == "SUCCEEDED")
    target.start_job(job(tmp_path, "wait"), "dag/two")
    assert target.job_status("replay").result is None
    assert target.job_status("replay").owner == "dag/two"


def test_running_job_is_kept_and_can_be_stopped(target: EmbeddedTarget, tmp_path: Path) -> None:
    target.start_job(job(tmp_path, "wait"), "dag/run")
    ready = target._directory("replay").path / "ready"
    eventually(ready.exists)
    pid = target._directory("replay").read_status()["driver"]["pid"]
    assert target.start_job(job(tmp_path, "wait"), "dag/run").state == "RUNNING"
    assert target._directory("replay").read_status()["driver"]["pid"] == pid
    assert target.stop_job("replay", 20, owner="dag/run").state == "STOPPED"
    assert not lives(pid)


def test_progress_comes_from_the_driver_itself(application: Application) -> None:
    application._driver.write_text(SERVER)
    application.start()
    target = application.target

    def answer() -> dict[str, object] | None:
        try:
            return target.progress("sample", last=1)
        except MillraceError:
            return None

    assert eventually(answer) == {"application": "sample", "path": "/progress?last=1", "queries": []}
    assert target.progress("sample")["path"] == "/progress"


def test_progress_without_driver_is_one_sentence(application: Application) -> None:
    with pytest.raises(MillraceError, match="no running driver"):
        application.target.progress("sample")
    application.start()  # It runs, but it doesn't listen.
    with pytest.raises(MillraceError, match=r"does not answer at http://127\.0\.0\.1:"):
        application.target.progress("sample")


def test_spec_that_may_hold_passwords_is_readable_by_its_owner_only(application: Application) -> None:
    application.start()
    assert stat.S_IMODE(application.directory.spec.stat().st_mode) == 0o600


def test_driver_environment_has_our_packages_and_nothing_of_airflow(application: Application) -> None:
    application.start()
    environment = json.loads(application.directory.spec.read_text())["environment"]
    root = load_settings().root
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(root), str(root / "dags"), str(root / "spark-apps")]
    assert environment["PYSPARK_PYTHON"] == sys.executable
    assert not [name for name in environment if "AIRFLOW" in name]


def test_child_environment_keeps_what_is_not_airflows() -> None:
    environ = {"AIRFLOW__X": "1", "_AIRFLOW_Y": "2", "KAFKA_BOOTSTRAP_SERVERS": "h:1", "MILLRACE_INSTANCE": "i"}
    kept = child_environment(environ, Path("/root"))
    assert {"KAFKA_BOOTSTRAP_SERVERS", "MILLRACE_INSTANCE"} < kept.keys()
    assert not environ.keys() & {"AIRFLOW__X", "_AIRFLOW_Y"} & kept.keys()


def test_missing_home_and_unknown_target_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MILLRACE_HOME", raising=False)
    monkeypatch.setenv("MILLRACE_TARGET", "embedded")
    with pytest.raises(MillraceError, match="MILLRACE_HOME is not set"):
        get_target()
    monkeypatch.setenv("MILLRACE_TARGET", "mainframe")
    with pytest.raises(MillraceError, match="'mainframe', but the targets are"):
        get_target()


def test_missing_manifest_is_one_sentence(target: EmbeddedTarget, tmp_path: Path) -> None:
    with pytest.raises(MillraceError, match=r"Cannot read the manifest .*No such file"):
        target.start_application(tmp_path / "application.yaml", "dag/run")


def test_no_java_is_one_sentence(tmp_path: Path, application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MillraceError, match="There is no java for Spark"):
        application.start()
    assert application.starts() == []
    with pytest.raises(MillraceError, match=r"JAVA_HOME is .*no bin/java"):
        require_java({"JAVA_HOME": str(tmp_path)})


def test_empty_jar_folder_is_one_sentence(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "require_java", lambda _: None)
    (tmp_path / "application.yaml").write_text(MANIFEST % "{type: Never}")
    monkeypatch.setenv("MILLRACE_SPARK_JARS", str(tmp_path))
    with pytest.raises(MillraceError, match="There are no jars in"):
        EmbeddedTarget(load_settings()).start_application(tmp_path / "application.yaml", "dag/run")


def test_storage_must_be_set() -> None:
    settings: Settings = load_settings({})
    with pytest.raises(MillraceError, match="MILLRACE_STORAGE is not set"):
        settings.require_storage()
