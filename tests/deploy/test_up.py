"""`make kind-up`, `kind-down` and `install`: order, going on, and every failure's sentence."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from k8s.install import waiting
from k8s.install.cluster import Cluster
from k8s.install.credentials import STREAM_USERS
from k8s.install.errors import UserError
from k8s.install.releases import ENVIRONMENTS, REPOSITORY, Wait, find_release, releases
from tests.charts.render import render_chart
from tests.deploy.conftest import GIB, IMAGES, PROGRAMS

NAMES = [release.name for release in releases()]


def planned(text):
    """The commands of a dry run, without titles and without those of our own program."""
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", ".venv/"))]
    return [" ".join(shlex.split(line)) for line in lines]


def test_up_does_what_the_dry_run_shows_in_that_order(world, millrace):
    status, text = millrace("up", "--dry-run")
    assert status == 0
    assert world.calls() == []
    expected = [line for line in planned(text) if " rollout restart " not in line]
    status, text = millrace("up")
    assert status == 0, text
    done = iter(world.calls())
    assert [line for line in expected if line not in done] == []  # each is found after the one before
    own = [line for line in world.changing() if line not in expected]
    assert {line.split(" --filename ")[1] for line in own} == {"-"}  # secrets and the certificate, by standard input
    for what in ("Waiting for Kafka (up to 15 min)", "Kafka: ready after", "Millrace is up"):
        assert what in text


def test_releases_come_in_their_order(world, millrace):
    millrace("up")
    installed = [line.split()[5] for line in world.calls() if " upgrade --install " in line]
    assert installed == NAMES == ["monitoring", "strimzi", "spark-operator", "millrace", "airflow"]


def test_releases_wait_only_for_what_they_need(world, millrace):
    """The operators start side by side; the chart waits for all three, Airflow for the chart."""
    millrace("up")
    calls = world.calls()

    def sent(name):
        return next(n for n, line in enumerate(calls) if f" upgrade --install {name} " in line)

    def waited(namespace):
        """Where it was waited for what is in a namespace, the first time and the last."""
        found = [
            number
            for number, line in enumerate(calls)
            if re.search(r" (rollout status|wait) ", line) and f"--namespace {namespace} " in f"{line} "
        ]
        return found[0], found[-1]

    operators = ("monitoring", "strimzi", "spark-operator")
    for name in operators:
        assert max(map(sent, operators)) < waited(name)[0] <= waited(name)[1] < sent("millrace")
    assert sent("millrace") < waited("millrace")[0] <= waited("millrace")[1] < sent("airflow") < waited("airflow")[0]


def test_up_again_changes_nothing_that_is_there(world, millrace):
    millrace("up")
    before = world.secrets()
    world.forget()
    status, text = millrace("up")
    assert status == 0, text
    assert world.secrets() == before
    changing = world.changing()
    assert not [line for line in changing if line.startswith("kind ") or " --filename -" in line or "rollout" in line]
    assert [line.split()[5] for line in changing if " upgrade --install " in line] == NAMES


def test_an_image_that_changed_is_loaded_and_its_pods_started_anew(world, millrace):
    millrace("up")
    world.change(images={**world.read()["images"], IMAGES[0]: "sha256:new"}, lists={"deployments|airflow": [{}]})
    world.forget()
    status, text = millrace("up")
    assert status == 0, text
    assert [line for line in world.calls() if " load " in line] == [
        f"kind load docker-image {IMAGES[0]} --name millrace"
    ]
    [restart] = [line for line in world.calls() if " rollout restart " in line]
    assert restart.endswith("--namespace airflow")


def test_a_node_that_was_made_anew_gets_every_image(world, millrace):
    millrace("up")
    world.change(node="node-2")
    world.forget()
    millrace("up")
    assert len([line for line in world.calls() if line.startswith("kind load ")]) == len(IMAGES)


def test_secrets_are_on_no_command_line_in_no_output_and_in_no_file(world, millrace, tmp_path):
    written = "".join(millrace("up")[1] for _ in range(2)) + millrace("ui", "--print")[1]
    public = {"admin", "certificate 1", *STREAM_USERS}
    values = {value for data in world.secrets().values() for value in data.values()} - public
    assert len(values) > 12
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".json", ".calls")]
    files.append(tmp_path / "kind-images.json")
    everything = written + "\n".join(world.calls()) + "".join(path.read_text() for path in files)
    assert [value for value in values if value in everything] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_is_missing_is_named(world, millrace, monkeypatch, program):
    (world.bin / program).unlink()
    monkeypatch.setenv("PATH", str(world.bin))
    (world.bin / "sh").symlink_to("/bin/sh")
    status, text = millrace("up")
    assert status == 1
    assert f"{program} is not on PATH: install" in text
    assert world.changing() == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"helm": "v3.12.1"}, "helm is v3.12.1, but must be 3.19 or later"),
        ({"kubectl": "v1.21.0"}, "kubectl is v1.21.0, but must be 1.28 or later"),
        (
            {"docker": {"MemTotal": 8 * GIB, "NCPU": 4}},
            "Docker has 4 CPUs and 8.0 GiB, but Millrace on kind needs 4 and 12",
        ),
        ({"docker": {"MemTotal": 16 * GIB, "NCPU": 2}}, "Docker has 2 CPUs"),
        ({"docker": {"ServerErrors": ["Cannot connect"]}}, "Docker does not answer (Cannot connect): start it"),
    ],
)
def test_a_machine_that_will_not_do_is_told_before_anything_is_made(world, millrace, changes, sentence):
    world.change(**changes)
    status, text = millrace("up")
    assert status == 1
    assert sentence in text
    assert world.changing() == []


def test_too_little_free_memory_counts_only_while_the_cluster_is_not_there(world, millrace, monkeypatch):
    from k8s.install import preflight

    monkeypatch.setattr(preflight, "_free_memory", lambda: 3.0)
    status, text = millrace("up")
    assert (status, world.changing()) == (1, [])
    assert "Only 3.0 GiB of memory are free" in text
    world.change(clusters=["millrace"], contexts=["kind-millrace"])
    assert millrace("up")[0] == 0


def test_docker_that_is_stopped(world, millrace):
    world.fail("^docker info", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock.")
    status, text = millrace("up")
    assert status == 1
    assert "Cannot connect to the Docker daemon" in text


def pod(name, **status):
    return {"metadata": {"name": name}, "status": {"phase": "Pending", **status}}


UNSCHEDULED = pod(
    "millrace-combined-0",
    conditions=[
        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: Insufficient memory."}
    ],
)
NO_IMAGE = pod(
    "kafka-ui-1",
    containerStatuses=[{"name": "ui", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}],
)
CRASHING = pod(
    "postgresql-0",
    containerStatuses=[
        {
            "name": "postgresql",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 3}},
        }
    ],
)
ENDING = {**pod("kafka-ui-0", phase="Running"), "metadata": {"name": "kafka-ui-0", "deletionTimestamp": "2026-01-01"}}
FINISHED = pod("bucket", phase="Succeeded")
READY = pod("object-store-0", phase="Running", conditions=[{"type": "Ready", "status": "True"}])
REFUSED = {
    "reason": "FailedCreate",
    "message": "violates PodSecurity restricted",
    "involvedObject": {"kind": "StatefulSet", "name": "postgresql"},
    "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
}


def test_what_does_not_get_ready_is_explained_and_the_next_try_goes_on(world, millrace):
    world.fail("wait kafka/millrace", "error: timed out waiting for the condition on kafkas/millrace")
    pods = [UNSCHEDULED, NO_IMAGE, CRASHING, ENDING, FINISHED, READY]
    world.change(lists={"pods|millrace": pods, "events|millrace": [REFUSED]})
    status, text = millrace("up")
    assert status == 1
    for part in (
        "Kafka did not get ready",
        "millrace-combined-0: not scheduled (0/1 nodes are available: Insufficient memory.)",
        "kafka-ui-1: container ui is in ImagePullBackOff (not found)",
        "postgresql-0: container postgresql is in CrashLoopBackOff, its last exit status was 3",
        "kafka-ui-0: is ending",
        "StatefulSet postgresql had FailedCreate: violates PodSecurity restricted",
        "run the same command again",
    ):
        assert part in text
    assert "bucket" not in text
    assert "object-store-0" not in text
    assert not [line for line in world.calls() if "--install airflow" in line]
    world.change(rules=[], lists={})
    assert millrace("up")[0] == 0
    assert [line for line in world.calls() if "--install airflow" in line]


def test_while_it_waits_it_says_what_is_missing(world, millrace, monkeypatch):
    monkeypatch.setattr(waiting, "REPORT_SECONDS", 0.05)
    world.fail("wait kafka/millrace", "gone", hang=True)
    world.change(lists={"pods|millrace": [NO_IMAGE]})
    monkeypatch.setattr(waiting, "GRACE_SECONDS", 1)
    wait = Wait("Kafka", ("wait", "kafka/millrace", "--for=condition=Ready"), 0)
    with pytest.raises(Exception, match="Kafka did not get ready"):
        waiting.wait_for(Cluster("kind-millrace"), find_release("millrace"), wait)
    pods = [line for line in world.calls() if " get pods " in line]
    assert len(pods) > 1  # while it waited, and at the end


OLD = 'Waiting for deployment "grafana" rollout to finish: 1 old replicas are pending termination...'
LATE = 'error: deployment "strimzi-cluster-operator" exceeded its progress deadline'


def test_a_rollout_whose_old_pods_are_all_ready_is_told_in_kubectls_words(world, monkeypatch, capsys):
    monkeypatch.setattr(waiting, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "GRACE_SECONDS", 8)
    world.fail("rollout status", OLD, hang=True)
    world.change(lists={"pods|monitoring": [READY]})
    wait = Wait("Grafana", ("rollout", "status", "deployment"), 0)
    with pytest.raises(UserError, match=rf"Grafana did not get ready \(\d+ s\): {OLD}"):
        waiting.wait_for(Cluster("kind-millrace"), find_release("monitoring"), wait)
    assert f" s: {OLD.rstrip('.')}\n" in capsys.readouterr().out


def test_a_deployment_past_its_own_deadline_is_waited_for_all_the_same(world, millrace, monkeypatch):
    """What was in the way may be gone since; until a pod is ready, kubectl can't see that."""
    monkeypatch.setattr(waiting, "REPORT_SECONDS", 0.05)
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.02)
    asked = "kubectl --context kind-millrace get pods --namespace strimzi --output json"
    world.fail("rollout status deployment --namespace strimzi", LATE, until=asked)
    world.change(lists={"pods|strimzi": [CRASHING]})
    status, text = millrace("up")
    assert status == 0, text
    assert "postgresql-0: container postgresql is in CrashLoopBackOff" in text
    assert "the Strimzi operator: ready after" in text


def test_a_deployment_past_its_own_deadline_is_given_up_in_the_end(world, monkeypatch):
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(waiting, "GRACE_SECONDS", 8)
    world.fail("rollout status", LATE)
    wait = Wait("the operator", ("rollout", "status", "deployment"), 0)
    with pytest.raises(UserError, match=rf"The operator did not get ready \(\d+ s\): {LATE}\."):
        waiting.wait_for(Cluster("kind-millrace"), find_release("strimzi"), wait)
    assert len([line for line in world.calls() if " rollout status " in line]) > 1


def test_the_reason_of_an_earlier_try_is_told_if_the_time_ends_in_a_later_one(world, monkeypatch):
    monkeypatch.setattr(waiting, "AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(waiting, "GRACE_SECONDS", 8)
    start, starts = waiting._start, []

    def hangs_the_second_time(command, output):
        starts.append(command)
        return start(command if len(starts) == 1 else ["sleep", "600"], output)

    monkeypatch.setattr(waiting, "_start", hangs_the_second_time)
    world.fail("rollout status", LATE)
    wait = Wait("the operator", ("rollout", "status", "deployment"), 0)
    with pytest.raises(UserError, match=rf"The operator did not get ready \(\d+ s\): {LATE}\."):
        waiting.wait_for(Cluster("kind-millrace"), find_release("strimzi"), wait)


def test_a_rollout_that_the_cluster_refuses_is_not_tried_again(world, millrace):
    world.fail("rollout status deployment --namespace strimzi", "Error from server (Forbidden): deployments.apps")
    status, text = millrace("up")
    assert status == 1
    assert "Error from server (Forbidden)" in text
    assert len([line for line in world.calls() if "rollout status deployment --namespace strimzi" in line]) == 1


def test_what_an_upgrade_replaces_is_waited_for_by_its_rollout():
    """A condition of a Deployment, or of pods, is true at once: by those of before."""
    for release in releases():
        commands = [wait.command for wait in release.waits]
        assert any(command[:2] == ("rollout", "status") and "deployment" in command[2] for command in commands)
        assert not [command for command in commands if command[:2] in (("wait", "deployment"), ("wait", "pod"))]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_kind_of_workload_of_our_chart_is_waited_for(environment):
    release = find_release("millrace")
    files = tuple(REPOSITORY / file for file in release.value_files(environment))
    kinds = {
        each["kind"].lower()
        for each in render_chart(files=files)
        if each["apiVersion"] == "apps/v1" and each["metadata"].get("namespace", release.namespace) == release.namespace
    }
    assert kinds
    waited = {kind for wait in release.waits if wait.command[0] == "rollout" for kind in wait.command[2].split(",")}
    assert kinds <= waited


@pytest.mark.parametrize("release", NAMES)
def test_a_release_that_helm_refuses_ends_it_with_helms_words(world, millrace, release):
    world.fail(f"upgrade --install {release} ", "Error: values don't meet the specifications of the schema")
    status, text = millrace("up")
    assert status == 1
    assert "values don't meet the specifications of the schema" in text
    later = NAMES[NAMES.index(release) + 1 :]
    assert not [line for line in world.calls() for name in later if f"--install {name} " in line]


@pytest.mark.parametrize("release", NAMES)
def test_a_release_before_its_time_is_refused_with_all_that_is_missing(world, millrace, release):
    world.change(contexts=["kind-millrace"])
    status, text = millrace("install", "--only", release)
    assert status == 1
    assert world.changing() == []
    assert f"Release {release} was not installed" in text
    assert f"namespace {release} (kubectl apply --filename k8s/namespaces.yaml)" in text
    if release == "millrace":
        assert "definition kafkas.kafka.strimzi.io (release strimzi)" in text
        assert "definition podmonitors.monitoring.coreos.com (release monitoring)" in text
        assert "secret millrace/postgresql (make secrets)" in text
    if release == "airflow":
        assert "ConfigMap airflow/millrace (release millrace)" in text
        assert "secret airflow/kafka-ca (make kafka-ca)" in text


def test_production_names_the_secrets_that_are_missing_before_any_release(world, millrace):
    world.change(contexts=["prod"])
    status, text = millrace("install", "--environment", "production", "--context", "prod")
    assert status == 1
    assert "airflow/airflow-connections" in text
    assert "monitoring/grafana-admin" in text
    assert "kafka-ca" not in text
    assert "millrace/kafka-user-ingest" in text
    assert "millrace/postgresql" not in text  # production has a database elsewhere
    assert not [line for line in world.calls() if "--install" in line]
    assert world.secrets() == {}


def test_the_context_is_one_of_the_kubeconfig_and_answers(world, millrace):
    status, text = millrace("install", "--context", "typo")
    assert status == 2
    assert "no context 'typo' (it has: elsewhere)" in text
    world.fail("version --output json", "Unable to connect to the server: dial tcp 10.0.0.1:443: i/o timeout")
    status, text = millrace("install", "--context", "elsewhere")
    assert status == 1
    assert "Unable to connect to the server" in text
    world.change(rules=[], kubernetes="v1.27.3")
    status, text = millrace("install", "--context", "elsewhere")
    assert "Kubernetes is v1.27.3, but must be 1.30 or later" in text
    assert world.changing() == []


def test_unknown_releases_and_environments_are_refused(world, millrace):
    status, text = millrace("install", "--only", "kafka")
    assert status == 2
    assert "choose one of monitoring, strimzi" in text
    status, text = millrace("install", "--environment", "prod")
    assert status == 2
    assert "invalid choice: 'prod'" in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("match", ["upgrade --install strimzi", "rollout status deployment --namespace strimzi"])
def test_ctrl_c_ends_what_runs_and_says_how_to_go_on(world, number, match):
    world.change(contexts=["kind-millrace"])
    world.fail(match, "never", hang=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "k8s.install", "install"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        reached = wait_until(
            lambda: [call for call in world.recorded() if "strimzi" in call["line"] and running(call, match)]
        )
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "Stopped. What is done stays: the same command goes on from here." in errors
    assert "Traceback" not in errors
    wait_until(lambda: not alive(reached[0]["pid"]))


def running(call, match):
    return re.search(match, call["line"])


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition, seconds=180):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def test_down_asks_lists_and_deletes(world, millrace, monkeypatch):
    millrace("up")
    monkeypatch.setattr("builtins.input", lambda _: "n")
    status, text = millrace("down")
    assert (status, world.read()["clusters"]) == (0, ["millrace"])
    assert "release millrace, its volumes and secrets" in text
    assert "Nothing was deleted" in text
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    assert millrace("down")[0] == 0
    assert world.read()["clusters"] == []
    status, text = millrace("down", "--yes")
    assert status == 0
    assert "nothing to delete" in text


def test_nobody_to_answer_is_a_no(world, millrace, monkeypatch):
    def nobody(_):
        raise EOFError

    world.change(clusters=["millrace"])
    monkeypatch.setattr("builtins.input", nobody)
    assert millrace("down")[0] == 0
    assert world.read()["clusters"] == ["millrace"]


def test_an_error_of_ours_gets_one_line_and_a_file(world, millrace, monkeypatch):
    from k8s.install import kind

    def broken(*_):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(kind, "up", broken)
    status, text = millrace("up")
    assert status == 70
    assert "Traceback" not in text
    assert "please report it with" in text
