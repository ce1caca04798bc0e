"""A real broker, real jars and a real Java for the tests that need them, and the command line as a user types it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded import class_archive, jars
from embedded.broker import Broker, BrokerSettings
from embedded.java import Java, find_java, home_for_spark
from embedded.paths import REPOSITORY
from embedded.ports import free_port
from embedded.processes import end_all
from embedded.settings import load_settings
from tests.embedded.spark_driver import Driver, Topics


@pytest.fixture(scope="session")
def java() -> Java:
    return find_java()


@pytest.fixture(scope="session")
def java_home(java: Java, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What spark-submit gets as JAVA_HOME."""
    return home_for_spark(java, tmp_path_factory.mktemp("java"))


@pytest.fixture(scope="session")
def jar_cache() -> Path:
    """Where jars are kept for later test runs."""
    return load_settings().jars


@pytest.fixture(scope="session")
def jar_directories(java: Java, jar_cache: Path) -> dict[str, Path]:
    """Kafka's and Spark's jars."""
    return jars.fetch(java, jar_cache)


@pytest.fixture(scope="session")
def kafka_jars(jar_directories: dict[str, Path]) -> Path:
    return jar_directories["kafka"]


@pytest.fixture(scope="session")
def spark_jars(jar_directories: dict[str, Path]) -> Path:
    return jar_directories["spark"]


@pytest.fixture(scope="session")
def submit_options(java: Java, spark_jars: Path, jar_cache: Path) -> str:
    """SPARK_SUBMIT_OPTS of a driver that lives for a test: over some forty of them the archive pays for itself."""
    class_archive.make(java, spark_jars, jar_cache, print)
    options = [*class_archive.java_options(java, spark_jars, jar_cache), class_archive.QUICK_START]
    return class_archive.submit_options(options, {})


@pytest.fixture(scope="package")
def broker_directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="millrace-test-kafka-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="package")
def broker(java: Java, kafka_jars: Path, broker_directory: Path) -> Iterator[Broker]:
    """A broker that all tests share; a test that kills it must leave it running again."""
    settings = BrokerSettings(
        java=java,
        jars=kafka_jars,
        directory=broker_directory,
        port=free_port(),
        controller_port=free_port(),
        log_file=broker_directory / "kafka.log",
        short_lived=True,
    )
    instance = Broker(settings)
    try:
        instance.start()
        yield instance
    finally:
        # Nobody reads its data again, so there is nothing to write in order.
        instance.kill()


class CommandLine:
    """`python -m embedded` with a home and ports of its own."""

    def __init__(self, home: Path, jar_cache: Path, **environment: str) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MILLRACE_", "AIRFLOW_"))}
        folders = ("", "dags", "spark-apps")
        self.environment = kept | {
            "PYTHONPATH": os.pathsep.join(str(REPOSITORY / folder) for folder in folders),
            "MILLRACE_HOME": str(home),
            "MILLRACE_JARS_CACHE": str(jar_cache),
            "MILLRACE_RETRY_DELAY_SECONDS": "5",
            "KAFKA_PORT": str(free_port()),
            "KAFKA_CONTROLLER_PORT": str(free_port()),
            "AIRFLOW_PORT": str(free_port()),
        }
        self.environment |= environment
        self.instances: set[str] = set()
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a command in a session of its own; its output goes to `output(process)`."""
        log = tempfile.NamedTemporaryFile("w+", prefix="millrace-test-", suffix=".log", delete=False)  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-m", "embedded", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        process.log = Path(log.name)  # type: ignore[attr-defined]
        log.close()
        self.started.append(process)
        return process

    def run(self, *arguments: str, timeout: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run a short command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "embedded", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def instance(self) -> str | None:
        """The id of the instance that instance.json names, remembered for the clean-up."""
        try:
            found = json.loads((self.home / "instance.json").read_bytes())["id"]
        except (OSError, ValueError):
            return None
        self.instances.add(found)
        return found

    def close(self) -> None:
        """End whatever is left of the commands that were started and of all instances that were seen."""
        self.instance()
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
            process.log.unlink(missing_ok=True)  # type: ignore[attr-defined]
        for instance in self.instances:
            end_all(instance, grace_seconds=0)


def output(process: "subprocess.Popen[str]") -> str:
    """What a started command has written so far."""
    return process.log.read_text()  # type: ignore[attr-defined]


def wait_until(
    condition: Callable[[], object], seconds: float = 90, process: "subprocess.Popen[str] | None" = None
) -> None:
    """Wait for a condition; fail if it does not come true, or if the command ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            pytest.fail(f"the command ended with {process.returncode}: {output(process)}")
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s in vain; {output(process) if process else ''}")
        time.sleep(0.02)


def interrupt(process: "subprocess.Popen[str]", times: int = 1) -> None:
    """Ctrl-C, as a terminal sends it."""
    for _ in range(times):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.1)


@pytest.fixture
def command_line(tmp_path: Path, jar_cache: Path) -> Iterator[CommandLine]:
    """The command line with an empty home."""
    found = CommandLine(tmp_path / "home", jar_cache)
    yield found
    found.close()


@pytest.fixture
def topics(broker: Broker) -> Iterator[Topics]:
    """Topics of one test's own."""
    found = Topics(broker)
    yield found
    found.close()


@pytest.fixture
def driver(
    topics: Topics, spark_jars: Path, java_home: Path, submit_options: str, tmp_path: Path
) -> Iterator[Callable[..., Driver]]:
    """Make drivers with the settings given; each is killed in the end."""
    made: list[Driver] = []

    def make(*overrides: str, **options: Any) -> Driver:
        made.append(Driver(topics, spark_jars, java_home, submit_options, tmp_path / "storage", overrides, **options))
        return made[-1]

    yield make
    for each in made:
        each.kill()
