"""The scripts that containers start with, run here with stand-ins on PATH that write down how they were called."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from embedded.paths import REPOSITORY
from tests.images.stand_ins import EXECUTOR, StandIns

SPARK = REPOSITORY / "images" / "spark" / "entrypoint.sh"
DECOMMISSION = REPOSITORY / "images" / "spark" / "decom.sh"
AIRFLOW = REPOSITORY / "images" / "airflow" / "entrypoint.sh"

QUIETLY_SHARED = ["-XX:+UnlockDiagnosticVMOptions", "-XX:ArchiveRelocationMode=0", "-Xlog:cds*=off"]


@pytest.fixture
def container(tmp_path):
    return StandIns(tmp_path)


@pytest.fixture
def real_python(container):
    """The container has the real Python, with its packages."""
    path = container.bin / "python"
    path.write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)


@pytest.fixture
def spark(container):
    container.program("tini")
    return container


def test_driver_is_submitted_in_client_mode_at_the_pods_address(spark):
    arguments = [
        "--properties-file",
        "/opt/spark/conf/spark.properties",
        "--class",
        "x.Y",
        "local:///a b.py",
        "--from",
        "",
    ]
    result = spark.run(SPARK, "driver", *arguments, SPARK_DRIVER_BIND_ADDRESS="10.0.0.7")
    assert result.returncode == 0, result.stderr
    assert spark.called() == [
        "tini",
        "-s",
        "--",
        "/opt/spark/bin/spark-submit",
        "--deploy-mode",
        "client",
        "--conf",
        "spark.driver.bindAddress=10.0.0.7",
        "--conf",
        "spark.executorEnv.SPARK_DRIVER_POD_IP=10.0.0.7",
        *arguments,
    ]


def test_executor_gets_its_options_in_order_and_as_they_are(spark):
    options = {f"SPARK_JAVA_OPT_{number}": f"-Doption{number}=a b $HOME *" for number in range(12)}
    result = spark.run(SPARK, "executor", **EXECUTOR, **options)
    assert result.returncode == 0, result.stderr
    called = spark.called()
    assert called[:4] == ["tini", "-s", "--", "/opt/java/bin/java"]
    assert called[4:16] == list(options.values())
    assert called[16:18] == ["-Xms1024m", "-Xmx1024m"]
    assert called[18:20] == ["-cp", "/opt/spark/conf:/opt/spark/jars/*"]
    assert called[20] == "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
    assert dict(zip(called[21::2], called[22::2], strict=True)) == {
        "--driver-url": EXECUTOR["SPARK_DRIVER_URL"],
        "--executor-id": "3",
        "--cores": "2",
        "--app-id": "spark-1",
        "--hostname": "10.0.0.9",
        "--resourceProfileId": "0",
        "--podName": "event-windows-exec-3",
    }


def test_executors_class_path_has_what_the_application_adds(spark):
    more = {"SPARK_CONF_DIR": "/conf", "HADOOP_CONF_DIR": "/hadoop", "SPARK_CLASSPATH": "/extra/*"}
    spark.run(SPARK, "executor", **EXECUTOR, **more)
    called = spark.called()
    assert called[called.index("-cp") + 1] == "/conf:/hadoop:/extra/*:/opt/spark/jars/*"


@pytest.fixture
def archive(tmp_path):
    """What the image's build leaves for the entrypoint."""
    folder = tmp_path / "class-archive"
    folder.mkdir()
    (folder / "spark.jsa").touch()
    (folder / "class-path").write_text("/jars/a.jar:/jars/b.jar")
    return folder


@pytest.fixture
def submit_options(spark):
    """Reads what the driver's Java would get by SPARK_SUBMIT_OPTS."""
    written = spark.record.with_name("submit-options")
    spark.program("tini", f'printf %s "${{SPARK_SUBMIT_OPTS:-}}" >{written}')
    return written.read_text


def test_driver_starts_from_the_archive_with_the_class_path_that_it_was_made_of(spark, archive, submit_options):
    more = {"SPARK_DRIVER_BIND_ADDRESS": "10.0.0.7", "SPARK_SUBMIT_OPTS": "-Xss4m", "SPARK_CLASS_ARCHIVE": str(archive)}
    assert spark.run(SPARK, "driver", "local:///app.py", **more).returncode == 0
    assert spark.called()[-3:] == ["--driver-class-path", "/jars/a.jar:/jars/b.jar", "local:///app.py"]
    # The user's come last, so that `-Xshare:off` there has the last word.
    assert submit_options() == f"-XX:SharedArchiveFile={archive}/spark.jsa {' '.join(QUIETLY_SHARED)} -Xss4m"


@pytest.mark.parametrize("missing", ["spark.jsa", "class-path", "everything"])
def test_driver_starts_without_an_archive_that_is_not_there(spark, archive, submit_options, missing):
    if missing == "everything":
        shutil.rmtree(archive)
    else:
        (archive / missing).unlink()
    more = {"SPARK_DRIVER_BIND_ADDRESS": "10.0.0.7", "SPARK_CLASS_ARCHIVE": str(archive)}
    assert spark.run(SPARK, "driver", "local:///app.py", **more).returncode == 0
    assert "--driver-class-path" not in spark.called()
    assert submit_options() == ""


def test_the_class_path_of_a_driver_s_own_settings_stays(spark, archive, submit_options, tmp_path):
    settings = tmp_path / "conf"
    settings.mkdir()
    (settings / "spark.properties").write_text("spark.app.name=x\nspark.driver.extraClassPath=/mine/*\n")
    more = {"SPARK_DRIVER_BIND_ADDRESS": "10.0.0.7", "SPARK_CLASS_ARCHIVE": str(archive)}
    spark.run(SPARK, "driver", "local:///app.py", SPARK_CONF_DIR=str(settings), **more)
    assert "--driver-class-path" not in spark.called()
    assert submit_options() == ""


def test_executor_starts_from_the_archive_with_the_class_path_that_it_was_made_of(spark, archive):
    spark.run(SPARK, "executor", **EXECUTOR, SPARK_CLASS_ARCHIVE=str(archive), SPARK_JAVA_OPT_0="-Xshare:off")
    called = spark.called()
    assert called[4:9] == [f"-XX:SharedArchiveFile={archive}/spark.jsa", *QUIETLY_SHARED, "-Xshare:off"]
    assert called[called.index("-cp") + 1] == "/jars/a.jar:/jars/b.jar:/opt/spark/conf:/opt/spark/jars/*"


def test_the_class_path_of_an_executor_s_own_settings_stays_first(spark, archive):
    spark.run(SPARK, "executor", **EXECUTOR, SPARK_CLASS_ARCHIVE=str(archive), SPARK_CLASSPATH="/mine/*")
    called = spark.called()
    assert called[called.index("-cp") + 1] == "/opt/spark/conf:/mine/*:/opt/spark/jars/*"
    assert not any("SharedArchiveFile" in each for each in called)


@pytest.mark.parametrize("missing", sorted(EXECUTOR))
def test_executor_says_what_is_missing(spark, missing):
    result = spark.run(SPARK, "executor", **{name: value for name, value in EXECUTOR.items() if name != missing})
    assert result.returncode == 2
    assert result.stderr.startswith(f"entrypoint: {missing} is not set")
    assert spark.called() == []


def test_driver_says_what_is_missing(spark):
    result = spark.run(SPARK, "driver", "app.py")
    assert result.returncode == 2
    assert result.stderr.startswith("entrypoint: SPARK_DRIVER_BIND_ADDRESS is not set")


def test_any_other_command_is_run_as_it_is(spark):
    assert spark.run(SPARK, "spark-submit", "--version").returncode == 0
    assert spark.called() == ["tini", "-s", "--", "spark-submit", "--version"]


def test_spark_without_a_command_says_what_to_give(spark):
    result = spark.run(SPARK)
    assert result.returncode == 2
    assert "no command: give 'driver ...' or 'executor'" in result.stderr


def test_decommission_asks_the_executor_and_waits_for_its_end(tmp_path):
    """With a real process that has the name and the argument of an executor's Java."""
    java = tmp_path / "java"
    shutil.copy(shutil.which("bash") or "/bin/bash", java)
    ready, asked = tmp_path / "ready", tmp_path / "asked"
    script = f"trap 'touch {asked}; exit 0' PWR; touch {ready}; while :; do sleep 0.1; done"
    backend = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
    executor = subprocess.Popen([str(java), "-c", script, backend])
    other = subprocess.Popen(["sleep", "60"])
    proc = tmp_path / "proc"
    proc.mkdir()
    for process in (other, executor):
        (proc / str(process.pid)).symlink_to(f"/proc/{process.pid}")
    hook = None
    try:
        while not ready.exists():
            assert executor.poll() is None
            time.sleep(0.02)
        hook = subprocess.Popen([str(DECOMMISSION)], env={**os.environ, "PROC": str(proc)})
        # Who started a process must take note of its end, in a container tini: until then it counts as running.
        assert executor.wait(timeout=30) == 0
        assert hook.wait(timeout=30) == 0
        assert asked.exists()
        assert other.poll() is None
    finally:
        for process in filter(None, (hook, executor, other)):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def test_decommission_without_an_executor_says_so(tmp_path):
    environment = {**os.environ, "PROC": str(tmp_path)}
    result = subprocess.run(
        [str(DECOMMISSION)], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 1
    assert "no executor runs in this container" in result.stderr


@pytest.mark.parametrize(
    ("given", "called"),
    [
        (["scheduler"], ["airflow", "scheduler"]),
        (["airflow", "jobs", "check"], ["airflow", "jobs", "check"]),
        (["python", "-c", "1"], ["python", "-c", "1"]),
        ([], ["airflow"]),
    ],
)
def test_airflow_runs_after_the_database_answered(container, given, called):
    container.program("airflow")
    container.program("python")
    result = container.run(AIRFLOW, *given)
    assert result.returncode == 0, result.stderr
    assert container.called() == ["airflow", "db", "check", *called]


def test_airflow_runs_what_bash_is_given(container):
    """How the chart writes its components: bash -c "exec airflow scheduler"."""
    container.program("airflow")
    assert container.run(AIRFLOW, "bash", "-c", "exec airflow scheduler").returncode == 0
    assert container.called() == ["airflow", "db", "check", "airflow", "scheduler"]


def test_airflow_waits_for_the_database(container, tmp_path):
    up = tmp_path / "up"
    # The third check finds the database up.
    container.program("airflow", f'[[ "$1" != db ]] || [[ $(grep -c "^check$" "$RECORD") -ge 3 ]] && touch {up}')
    result = container.run(AIRFLOW, "scheduler", CONNECTION_CHECK_SLEEP_TIME="0")
    assert result.returncode == 0, result.stderr
    assert container.called() == ["airflow", "db", "check"] * 3 + ["airflow", "scheduler"]


def test_airflow_gives_up_with_the_databases_answer(container):
    container.program("airflow", 'echo "could not connect to postgresql"; exit 1')
    result = container.run(AIRFLOW, "scheduler", CONNECTION_CHECK_MAX_COUNT="2", CONNECTION_CHECK_SLEEP_TIME="0")
    assert result.returncode == 1
    assert "did not answer 2 times" in result.stderr
    assert "could not connect to postgresql" in result.stderr
    assert "scheduler" not in container.called()


def test_airflow_is_not_started_to_ask_a_database_whose_address_is_known(container, real_python, tmp_path):
    container.program("airflow")
    # The pause between two questions is when the database comes up.
    container.program("sleep", f"mkdir -p {tmp_path}/up")
    address = f"sqlite:///{tmp_path}/up/metadata.db"
    result = container.run(AIRFLOW, "scheduler", AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=address)
    assert result.returncode == 0, result.stderr
    assert container.called() == ["sleep", "3", "airflow", "scheduler"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("sqlite:////nowhere/at/all.db", "OperationalError: "),
        ("postgresql://airflow:a-secret@127.0.0.1:1/airflow", "OperationalError: "),
        ("nonsense", "ArgumentError: "),
        ("nonsense://airflow:a-secret@database", "NoSuchModuleError: "),
    ],
)
def test_why_a_known_database_does_not_answer_is_said_without_its_password(container, real_python, address, reason):
    container.program("airflow")
    result = container.run(
        AIRFLOW,
        "scheduler",
        AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=address,
        CONNECTION_CHECK_MAX_COUNT="2",
        CONNECTION_CHECK_SLEEP_TIME="0",
    )
    assert result.returncode == 1
    assert "did not answer 2 times" in result.stderr
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert "a-secret" not in result.stderr
    assert container.called() == []


def test_probes_do_not_wait(container):
    """The chart's probes set the count to 0: the database's state is not what they ask for."""
    container.program("airflow")
    container.run(AIRFLOW, "airflow", "jobs", "check", CONNECTION_CHECK_MAX_COUNT="0")
    assert container.called() == ["airflow", "jobs", "check"]


def test_a_tasks_pod_does_not_ask_for_the_database(container):
    """Network policies keep it from there; the executor sets the variable in each pod that it makes."""
    container.program("airflow", '[[ "$1" != db ]] || exit 1')
    container.program("python")
    result = container.run(AIRFLOW, "python", "-m", "task", AIRFLOW_IS_K8S_EXECUTOR_POD="True")
    assert result.returncode == 0, result.stderr
    assert container.called() == ["python", "-m", "task"]


def test_airflow_refuses_a_count_that_is_none(container):
    container.program("airflow")
    result = container.run(AIRFLOW, "scheduler", CONNECTION_CHECK_MAX_COUNT="ten")
    assert result.returncode == 2
    assert "CONNECTION_CHECK_MAX_COUNT is 'ten', which is not a whole number" in result.stderr
    assert container.called() == []
