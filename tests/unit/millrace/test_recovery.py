"""The recovery tool by a target: the real tool on a real checkpoint, in the place of a driver; Spark is not needed."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from millrace import recovery, recovery_steps
from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.operators.jobs import RunJobOperator
from millrace.operators.recovery import RecoveryOperator
from millrace.recovery import Request, main, run_tool, start_tool, tool_document
from millrace.targets import embedded
from millrace.targets.base import JobSpec, JobState, JobStatus
from millrace.targets.manifest import SparkApplication, local_path
from millrace.triggers import base, jobs
from millrace.triggers.jobs import JobEndedTrigger
from tests.charts.schemas import problems
from tests.definitions import operators_definitions
from tests.unit.millrace.conftest import Application, eventually
from tests.unit.millrace.test_triggers import event_of
from tests.unit.streamkit.checkpoints import fingerprint, kafka_checkpoint

REPOSITORY = Path(__file__).parents[3]
SETTINGS = """
application: sample
source: {topic: t, contract: none, bootstrap_servers: none}
sinks: {kafka: {topic: none, bootstrap_servers: none}}
"""
MANIFEST = """
apiVersion: sparkoperator.k8s.io/v1beta2
kind: SparkApplication
metadata: {name: sample}
spec:
  type: Python
  mainApplicationFile: local:///opt/millrace/spark-apps/sample/app.py
  arguments: [--settings, local:///opt/millrace/spark-apps/sample/settings.yaml]
  restartPolicy: {type: OnFailure, onFailureRetries: 5}
"""


@pytest.fixture
def checkpoint(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint of an app `sample`, in a repository of its own; instead of spark-submit, Python will do."""
    root = tmp_path / "root"
    app = root / "spark-apps/sample"
    app.mkdir(parents=True)
    (app / "settings.yaml").write_text(SETTINGS)
    (app / "application.yaml").write_text(MANIFEST)
    for part in ("spark-apps/streamkit", "dags"):
        (root / part).symlink_to(REPOSITORY / part)
    monkeypatch.setenv("MILLRACE_ROOT", str(root))

    def submit(application: SparkApplication, root: Path, jars: Any, arguments: Any) -> list[str]:
        own = [local_path(each, root) for each in (application.main_file, *application.arguments, *arguments)]
        return [sys.executable, *own]

    monkeypatch.setattr(embedded, "submit_command", submit)
    ends = [{"t": {"0": 5}}, {"t": {"0": 9}}, {"t": {"0": 12}}]
    return kafka_checkpoint(home / "storage/checkpoints/sample/sample", ends)


def request(action: str, *arguments: str) -> Request:
    return Request("sample", action, (*arguments, "--offline") if action != "inspect" else arguments)


def test_the_tool_has_all_that_the_app_has_but_runs_once() -> None:
    document = yaml.safe_load((REPOSITORY / "spark-apps/event-windows/application.yaml").read_text())
    before = json.dumps(document)
    reading = Request("event-windows", "check", ("--offline",), ("source.topic=other",))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MILLRACE_STORAGE", "s3a://bucket")
        found = tool_document(document, reading)
        changing = tool_document(document, Request("event-windows", "rewind", ("--to-batch", "3")))
    assert json.dumps(document) == before
    assert found["metadata"]["name"] == "event-windows-recovery"
    # Under the app's own name: as long as it lives nobody can start the app.
    assert changing["metadata"]["name"] == "event-windows"
    assert found["metadata"]["labels"] == document["metadata"]["labels"]
    changed = ("mainApplicationFile", "arguments", "restartPolicy")
    for spec in (found["spec"], changing["spec"]):
        assert spec["mainApplicationFile"] == recovery.TOOL
        assert spec["restartPolicy"] == {"type": "Never"}
        assert {k: v for k, v in spec.items() if k not in changed} == {
            k: v for k, v in document["spec"].items() if k not in changed
        }
    settings = ["--settings", "local:///opt/millrace/spark-apps/event-windows/settings.yaml"]
    output = ["--output", "s3a://bucket/recovery/result.json"]
    assert found["spec"]["arguments"] == [*settings, "--set", "source.topic=other", "check", *output, "--offline"]
    assert changing["spec"]["arguments"] == [*settings, "rewind", "--claimed", "--yes", *output, "--to-batch", "3"]
    definition = operators_definitions()["SparkApplication"]
    assert problems(found, definition) == problems(changing, definition) == []
    assert Path(local_path(recovery.TOOL, REPOSITORY)).is_file()


def test_a_checkpoint_is_checked_and_taken_back(checkpoint: Path) -> None:
    sound = run_tool(request("check"), "dag/run/check", 60)
    assert (sound.status, sound.values) == (0, [])
    assert sound.text.endswith("checkpoints/sample: sound")
    before = fingerprint(checkpoint.parent)
    plan = run_tool(request("rewind", "--to-batch", "1", "--dry-run"), "dag/run/rewind", 60)
    assert "to batch 1" in plan.text
    assert fingerprint(checkpoint.parent) == before
    done = run_tool(request("rewind", "--to-batch", "1"), "dag/run/rewind", 60)
    assert (done.status, done.values[0]["done"], done.values[0]["records"]) == (0, True, 3)
    assert sorted(path.name for path in (checkpoint / "commits").iterdir()) == ["0", "1"]
    refused = run_tool(request("rewind", "--to-batch", "7"), "dag/run/rewind", 60)
    assert (refused.status, refused.values) == (1, [])
    assert "batch 7 is not there: committed batches are 0 to 1" in refused.error


def test_nobody_rewinds_a_running_app_but_anybody_may_look(
    checkpoint: Path, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    application.start(owner="dag/other")
    application.wait_for_starts(1)
    before = fingerprint(checkpoint.parent)
    for arguments in (("--to-batch", "1"), ("--to-batch", "1", "--dry-run")):
        with pytest.raises(OwnedByAnotherError, match="sample is already run by dag/other"):
            start_tool(request("rewind", *arguments), "dag/run/rewind")
    assert fingerprint(checkpoint.parent) == before
    assert application.state() == "RUNNING"


def test_looking_goes_on_beside_a_running_app(
    checkpoint: Path, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = embedded.submit_command
    application.start(owner="dag/other")
    application.wait_for_starts(1)
    monkeypatch.setattr(embedded, "submit_command", tool)
    assert run_tool(request("inspect"), "dag/run/inspect", 60).values[0]["finished"] == 2
    assert application.state() == "RUNNING"


def test_an_app_is_not_started_while_its_checkpoint_is_taken_back(
    checkpoint: Path, application: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(embedded, "submit_command", lambda *_: waiting)
    start_tool(request("rewind", "--to-batch", "1"), "dag/run/rewind")
    eventually(lambda: application.state() == "RUNNING")
    with pytest.raises(OwnedByAnotherError, match="sample is already run by dag/run/rewind"):
        application.start(owner="dag/other")


def test_a_tool_that_ends_without_a_word_is_one_sentence(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_tool(request("check"), "dag/run/check", 60)  # its answer must not be taken for the next one's
    monkeypatch.setattr(embedded, "submit_command", lambda *_: [sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(
        MillraceError, match=r"check of sample ended without a result \(FAILED: .*exit code 3\): see its log"
    ):
        run_tool(request("check"), "dag/run/check", 60)


def test_an_unknown_app_is_refused(checkpoint: Path) -> None:
    for name in ("other", "../sample", ""):
        with pytest.raises(MillraceError, match=r"There is no application .*: choose one of sample\."):
            start_tool(Request(name, "check"), "owner")


def context() -> Any:
    ti = SimpleNamespace(task_id="check_checkpoint", try_number=1)
    return {"dag": SimpleNamespace(dag_id="dag"), "run_id": "manual__1", "ti": ti}


def ended(operator: RecoveryOperator) -> Any:
    """Run an operator as Airflow does: its start, its trigger, its end."""
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute.__wrapped__(operator, context())  # type: ignore[attr-defined]
    event = event_of(deferred.value.trigger)
    return operator.on_event(context(), event)


def test_a_task_shows_what_the_tool_says_and_fails_for_findings(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.0)
    operator = RecoveryOperator(
        task_id="check_checkpoint", action="check", application="sample", arguments=["--offline"], timeout=60
    )
    found = ended(operator)
    assert found["result"] == []
    assert found["output"].endswith("/reports/manual__1/check_checkpoint.json")
    assert "checkpoints/sample: sound" in capsys.readouterr().out
    (checkpoint / "commits/1").unlink()
    with pytest.raises(AirflowFailException, match="sample: commits/1 is missing, between 0 and 2"):
        ended(operator)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_by_hand_the_plan_is_shown_and_the_answer_asked_for(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", "rewind", "--offline", "--to-batch", "1"]
    before = fingerprint(checkpoint)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "to batch 1" in said.out and "Nothing was changed" in said.err
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(arguments) == 2
    assert "say --yes" in capsys.readouterr().err
    assert fingerprint(checkpoint) == before
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert main(arguments) == 0
    assert "done: the checkpoint as it was is in" in capsys.readouterr().out
    assert main(["sample", "rewind", "--offline", "--to-batch", "0", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["batch"] == 0
    assert main(["nothing", "check"]) == 2
    assert not list((checkpoint.parents[2] / "recovery").rglob("*.json"))


PARAMS: dict[str, Any] = {
    "application": "sample",
    "query": "",
    "action": "rewind",
    "to_batch": 3,
    "to_offsets": "",
    "dry_run": False,
    "keep_table": False,
    "stop_running": False,
    "settings": "",
    "dead_letter_topic": "events-dead-letter",
    "reasons": "",
}


def test_parameters_become_arguments(checkpoint: Path) -> None:
    found = recovery_steps.prepare_action(PARAMS | {"settings": "a.b=1 c=2"})
    assert found["rewind"] == ["--to-batch", "3"]
    assert (found["settings"], found["start"]) == (["a.b=1", "c=2"], ["--set", "a.b=1", "--set", "c=2"])
    changes: dict[str, Any] = {
        "to_batch": None,
        "to_offsets": "t:0:5 t:1:6",
        "query": "q",
        "dry_run": True,
        "keep_table": True,
    }
    found = recovery_steps.prepare_action(PARAMS | changes)
    assert found["look"] == ["--query", "q"]
    assert found["rewind"] == ["--query", "q", "--dry-run", "--keep-table", "--to-offsets", "t:0:5", "t:1:6"]
    found = recovery_steps.prepare_action(PARAMS | {"action": "replay", "reasons": "malformed JSON\nunknown\n"})
    topic = ["--topic=events-dead-letter", "--reason", "malformed JSON", "--reason", "unknown"]
    assert (found["replay"], found["rewind"]) == (topic, [])
    for changes, words in (
        ({"to_batch": None}, "needs one goal"),
        ({"to_offsets": "t:0:5"}, "needs one goal"),
        ({"action": "replay", "dead_letter_topic": ""}, "give `dead_letter_topic`"),
        ({"application": "other"}, "There is no application 'other'"),
    ):
        with pytest.raises(MillraceError, match=words):
            recovery_steps.prepare_action(PARAMS | changes)


def test_a_running_app_is_stopped_only_if_asked(checkpoint: Path, application: Application) -> None:
    assert "sample is left as it is: never started" in recovery_steps.stop_first(PARAMS | {"stop_running": True})
    application.start(owner="dag/other")
    application.wait_for_starts(1)
    assert "sample is left as it is: RUNNING" in recovery_steps.stop_first(PARAMS)
    assert application.state() == "RUNNING"
    assert "sample is COMPLETED" in recovery_steps.stop_first(PARAMS | {"stop_running": True})


@pytest.mark.parametrize(
    ("state", "owner", "status", "words"),
    [
        (JobState.SUCCEEDED, "dag/run", "success", "has succeeded"),
        (JobState.FAILED, "dag/run", "error", "FAILED"),
        (JobState.STOPPED, "dag/run", "error", "STOPPED"),
        (JobState.SUCCEEDED, "dag/other", "error", "run by dag/other"),
        (JobState.NEW, None, "error", "run by nobody"),
        (JobState.RUNNING, "dag/run", "error", "has not ended"),
    ],
)
def test_a_job_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, state: JobState, owner: str | None, status: str, words: str
) -> None:
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(jobs, "get_target", lambda: SimpleNamespace(job_status=lambda n: JobStatus(n, state, owner)))
    trigger = JobEndedTrigger(job="j", owner="dag/run", poll_interval=0.02, deadline=1.0)
    path, arguments = trigger.serialize()
    assert path == "millrace.triggers.jobs.JobEndedTrigger"
    event = event_of(JobEndedTrigger(**arguments))
    assert event["status"] == status
    assert words in event["message"]


def test_a_job_gives_what_it_wrote(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.0)
    (tmp_path / "writer.py").write_text(
        'import sys\nfrom pathlib import Path\nPath(sys.argv[-1]).write_text(\'{"said": "%s"}\' % sys.argv[1])'
    )
    spec = JobSpec("writer", "writer", env={"PYTHONPATH": str(tmp_path)}, status_file_argument="--status-file")
    operator = RunJobOperator(task_id="check_checkpoint", job=spec, more_arguments=["hello"])
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute.__wrapped__(operator, context())  # type: ignore[attr-defined]
    event = event_of(deferred.value.trigger)
    assert operator.on_event(context(), event) == {"said": "hello"}
