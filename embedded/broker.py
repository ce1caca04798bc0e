"""One Kafka broker in KRaft mode on the loopback interface, as a child process."""

import base64
import contextlib
import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from embedded.errors import UserError
from embedded.java import Java
from embedded.ports import LOOPBACK, accepts_connections, require_free

LOG_CONFIGURATION = Path(__file__).with_name("kafka-log4j2.xml")
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class BrokerSettings:
    """How to run the broker.

    Attributes:
        java: the runtime.
        jars: directory with Kafka's jars.
        directory: where the broker keeps its settings and data.
        port: for clients.
        controller_port: for the KRaft controller; the data remember it, so it stays the same for one directory.
        log_file: where its output goes.
        heap_mebibytes: size of the Java heap.
        short_lived: compile less and less well. A broker that lives for minutes then takes half the CPU time in all
            (3.6 s instead of 7.1 s for 2 million records); one that lives for hours takes more.
        environment: of the process; the whole environment, not an addition.
    """

    java: Java
    jars: Path
    directory: Path
    port: int
    controller_port: int
    log_file: Path
    heap_mebibytes: int = 256
    short_lived: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


class Broker:
    """The broker's process: start, stop, kill, restart. Its data survive all of these."""

    def __init__(self, settings: BrokerSettings) -> None:
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to: ``host:port``."""
        return f"{LOOPBACK}:{self.settings.port}"

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def start(self, wait_seconds: float = 60) -> None:
        """Start the broker and wait until it answers.

        Raises:
            UserError: a port is taken, or the broker did not come up; the message names its log.
        """
        self.launch()
        self.wait_ready(wait_seconds)

    def launch(self) -> None:
        """Start the process, formatting the data directory if it is new; do not wait until it answers.

        Raises:
            UserError: a port is taken, or the data directory could not be formatted.
        """
        if self.running:
            return
        require_free(self.settings.port, "Kafka", "KAFKA_PORT")
        require_free(self.settings.controller_port, "Kafka's controller", "KAFKA_CONTROLLER_PORT")
        configuration = self._write_configuration()
        self.settings.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.settings.log_file.open("ab") as log:
            if not (self._data / "meta.properties").exists():
                self._format(configuration, log.fileno())
            # A session of its own: Ctrl-C reaches only the supervisor, which stops the parts in their order.
            self.process = subprocess.Popen(
                self._command("kafka.Kafka", str(configuration)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.settings.environment),
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = 60) -> None:
        """Wait until the broker answers a metadata request.

        Raises:
            UserError: it ended, or did not answer in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                raise UserError(f"Kafka ended while it started: {self._last_error()} (see {self.settings.log_file}).")
            if accepts_connections(self.settings.port) and self.answers():
                return
            time.sleep(0.05)
        raise UserError(f"Kafka did not answer within {seconds:.0f} s: see {self.settings.log_file}.")

    def stop(self, seconds: float = 20) -> None:
        """End the broker gracefully (SIGTERM); kill it if it takes longer than ``seconds``."""
        if self.process is None:
            return
        if self.running:
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a crash would."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def restart(self) -> None:
        """Stop the broker if it runs, start it again on the same data and wait until it answers."""
        self.stop()
        self.start()

    @property
    def _data(self) -> Path:
        return self.settings.directory / "data"

    def answers(self) -> bool:
        """Whether the broker answers a metadata request now (waits 2 s at most)."""
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        try:
            return bool(client.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def _command(self, main_class: str, *arguments: str) -> list[str]:
        heap = f"{self.settings.heap_mebibytes}m"
        compiler = ["-XX:TieredStopAtLevel=1"] if self.settings.short_lived else []
        options = [
            *compiler,
            f"-Xms{heap}",
            f"-Xmx{heap}",
            *JVM_OPTIONS,
            f"-Dlog4j2.configurationFile={LOG_CONFIGURATION}",
        ]
        classpath = f"{self.settings.jars}/*"
        return [str(self.settings.java.executable), *options, "-cp", classpath, main_class, *arguments]

    def _format(self, configuration: Path, log: int) -> None:
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # An interrupted format leaves files but no meta.properties; --ignore-formatted completes it.
        arguments = ["format", "--standalone", "--ignore-formatted", f"--cluster-id={cluster}"]
        arguments += ["--config", str(configuration)]
        command = self._command("kafka.tools.StorageTool", *arguments)
        result = subprocess.run(command, stdout=log, stderr=log, env=dict(self.settings.environment), check=False)
        if result.returncode != 0:
            raise UserError(
                f"Kafka's data directory {self._data} could not be prepared: {self._last_error()} "
                f"(see {self.settings.log_file})."
            )

    def _write_configuration(self) -> Path:
        path = self.settings.directory / "server.properties"
        try:
            self.settings.directory.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        except OSError as error:
            raise UserError(
                f"{self.settings.directory} can't be written ({error.strerror}): set MILLRACE_HOME to a directory "
                "that can."
            ) from None
        return path

    def _properties(self) -> dict[str, str | int]:
        clients, controller = self.bootstrap_servers, f"{LOOPBACK}:{self.settings.controller_port}"
        properties: dict[str, str | int] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": controller,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{clients},CONTROLLER://{controller}",
            "log.dirs": str(self._data),
        }
        return properties | BROKER_PROPERTIES

    def _last_error(self) -> str:
        try:
            lines = self.settings.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return "no reason was logged"
        errors = [line for line in lines[-200:] if re.search(r"ERROR|FATAL|Exception|error:", line)]
        return errors[-1].strip() if errors else "no reason was logged"


JVM_OPTIONS = [
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
]

BROKER_PROPERTIES: dict[str, str | int] = {
    # Topics come from contracts/topics.yaml; a misspelt name must be an error, not a new topic.
    "auto.create.topics.enable": "false",
    # One node: nothing can have a second replica.
    "default.replication.factor": 1,
    "min.insync.replicas": 1,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # The defaults (50) make 150 directories and files to open at each start, for a handful of groups.
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 4,
    # A group of one consumer need not wait three seconds for others.
    "group.initial.rebalance.delay.ms": 0,
    "message.max.bytes": MEBIBYTE,
    "log.segment.bytes": 256 * MEBIBYTE,
    # Its default is 128 MiB of heap, allocated at the first compaction.
    "log.cleaner.dedupe.buffer.size": 16 * MEBIBYTE,
    "num.network.threads": 3,
    "num.io.threads": 4,
    "num.recovery.threads.per.data.dir": 2,
    # After a crash the broker waits for its own former session to end (default: 9 s) before it serves again.
    "broker.session.timeout.ms": 5000,
    "broker.heartbeat.interval.ms": 1000,
    # Deleted topics give their space back within seconds, as a run that begins anew deletes and creates them.
    "log.segment.delete.delay.ms": 5000,
}
