"""What the benchmarks run on: a broker and the embedded target in a directory of their own, ended afterwards."""

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedded import class_archive, jars
from embedded.broker import Broker, BrokerSettings
from embedded.java import Java, find_java, home_for_spark
from embedded.paths import REPOSITORY
from embedded.ports import free_port
from embedded.processes import end_all
from embedded.settings import load_settings
from millrace.targets import get_target
from millrace.targets.base import ApplicationState, Target

PARTITIONS = 6
EVENT_WINDOWS = REPOSITORY / "spark-apps" / "event-windows" / "application.yaml"
FILTER = REPOSITORY / "benchmarks" / "filter" / "application.yaml"
REAL_TIME_FILTER = FILTER.with_name("real-time.yaml")


@dataclass(frozen=True)
class Rig:
    """A running broker, and the target that starts apps on it.

    Attributes:
        home: directory of this rig (MILLRACE_HOME); gone when the rig ends.
        kafka_jars: directory with Kafka's jars, for its performance tools.
    """

    broker: Broker
    target: Target
    home: Path
    java_home: Path
    kafka_jars: Path

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to: ``host:port``."""
        return self.broker.bootstrap_servers

    def run_until(
        self,
        manifest: Path,
        arguments: list[str],
        query: str,
        done: Callable[[list[dict[str, Any]]], bool],
        seconds: float,
    ) -> list[dict[str, Any]]:
        """Run an app until `done(progress of query)`, stop it gracefully and return that progress, oldest first.

        Raises:
            RuntimeError: when the app ended by itself, or was not done within `seconds`.
        """
        name = self.start(manifest, arguments)
        try:
            return self.wait(name, query, done, seconds)
        finally:
            self.stop(name)

    def start(self, manifest: Path, arguments: list[str]) -> str:
        """Start an app from nothing (its checkpoint and tables are deleted first) and return its name."""
        shutil.rmtree(self.home / "storage", ignore_errors=True)
        return self.target.start_application(manifest, f"benchmark/{uuid.uuid4()}", arguments).name

    def stop(self, name: str) -> None:
        """Stop an app; its last batch is finished."""
        self.target.stop_application(name, timeout=120)

    def wait(
        self, name: str, query: str, done: Callable[[list[dict[str, Any]]], bool], seconds: float
    ) -> list[dict[str, Any]]:
        """Wait until `done(progress of query)` and return that progress; see `run_until`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.target.application_status(name)
            if status.state.ended or status.state is ApplicationState.FAILING:
                log, _ = self.target.driver_log(name)
                raise RuntimeError(f"{name} ended as {status.state or 'NEW'}: {status.message}\n{log[-2000:]}")
            progress = self.progress(name, query)
            if done(progress):
                return progress
            time.sleep(0.25)
        raise RuntimeError(
            f"{name} was not done within {seconds:.0f} s; its last progress: {self.progress(name, query)[-1:]}"
        )

    def progress(self, name: str, query: str) -> list[dict[str, Any]]:
        """Return the progress of one query of an app, oldest first; empty while there is none."""
        from millrace.errors import MillraceError  # noqa: PLC0415 - keeps Airflow's library out of --help

        try:
            answer = self.target.progress(name)
        except MillraceError:
            return []
        return [entry for item in answer["queries"] if item["name"] == query for entry in item["progress"]]


def prepare() -> tuple[Java, dict[str, Path], str]:
    """Do what `make setup` does; return the Java, the jars by set, and SPARK_SUBMIT_OPTS with the class archive."""
    java, cache = find_java(), load_settings().jars
    directories = jars.fetch(java, cache)
    class_archive.make(java, directories["spark"], cache, print)
    options = class_archive.java_options(java, directories["spark"], cache)
    return java, directories, class_archive.submit_options(options, os.environ)


@contextmanager
def rig() -> Iterator[Rig]:
    """Start a broker and give the rig; end everything that carries its instance id afterwards."""
    java, directories, submit_options = prepare()
    home = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
    instance = str(uuid.uuid4())
    port = free_port()
    before = dict(os.environ)
    os.environ.update(
        MILLRACE_TARGET="embedded",
        MILLRACE_HOME=str(home),
        MILLRACE_STORAGE=f"file://{home}/storage",
        MILLRACE_SPARK_JARS=str(directories["spark"]),
        MILLRACE_INSTANCE=instance,
        SPARK_SUBMIT_OPTS=submit_options,
        JAVA_HOME=str(home_for_spark(java, home / "java")),
        KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{port}",
    )
    broker = Broker(
        BrokerSettings(
            java=java,
            jars=directories["kafka"],
            directory=home / "kafka",
            port=port,
            controller_port=free_port(),
            log_file=home / "kafka.log",
            heap_mebibytes=512,
            environment=dict(os.environ),
        )
    )
    try:
        broker.start()
        yield Rig(broker, get_target(), home, java.home, directories["kafka"])
    finally:
        end_all(instance)
        broker.kill()
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(home, ignore_errors=True)
