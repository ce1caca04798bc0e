"""Bring the parts of the embedded target up, watch them, and take them down in order."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from embedded import class_archive, jars
from embedded.airflow import Airflow, airflow_environment, load_secrets, mark_migrated
from embedded.applications import stop_applications
from embedded.broker import Broker, BrokerSettings
from embedded.client import AirflowClient
from embedded.errors import UserError
from embedded.instance import Instance
from embedded.java import Java, find_java, home_for_spark
from embedded.paths import REPOSITORY
from embedded.ports import require_free
from embedded.processes import rotate
from embedded.settings import Settings

BROKER_SECONDS = 60.0
LOOP_SECONDS = {"run": 0.1, "up": 0.5}
"""The scheduler's pause by command: a run is to end soon, an instance that stays up is to be no burden."""
AIRFLOW_SECONDS = 120.0
RETRY_SECONDS = 15
"""The first delay before a task of a run is tried again."""
KEPT_SETTINGS = ("AIRFLOW__OPENLINEAGE__", "AIRFLOW_CONN_ALERTS_")
"""What a user may say about Airflow: whether lineage is sent, and who is told of failures."""
MOST_RESTARTS = 3
"""How often a part that dies is started again, before the whole is given up."""

Say = Callable[[str], None]


class Supervisor:
    """The broker and Airflow of one instance."""

    def __init__(self, settings: Settings, instance: Instance, say: Say) -> None:
        self.settings = settings
        self.instance = instance
        self.say = say
        self.broker: Broker | None = None
        self.airflow: Airflow | None = None
        self.client: AirflowClient | None = None
        self._restarts = {"Kafka": 0, "Airflow": 0}
        self._broker_restarted_at = 0.0

    def start(self, dag_ids: tuple[str, ...] = (), parts: tuple[str, ...] = ()) -> AirflowClient:
        """Start everything, and return when it serves.

        Args:
            dag_ids: DAGs that must have been read from their files since the start.
            parts: of Airflow that must work already, beside its API.

        Raises:
            UserError: something the user can put right is in the way.
        """
        settings, began = self.settings, time.monotonic()
        java = find_java()
        self.say(f"Using {java}.")
        found = prepare_jars(java, settings, self.say)
        # Both, before anything is started for nothing.
        require_free(settings.kafka_port, "Kafka", "KAFKA_PORT")
        require_free(settings.airflow_port, "Airflow", "AIRFLOW_PORT")
        keys = load_secrets(settings)
        environment = child_environment(settings, java, found["spark"], os.environ) | self.instance.environment
        short_lived = self.instance.record.command == "run"
        options = class_archive.java_options(java, found["spark"], settings.jars)
        if short_lived:
            # A run ends within minutes, most of which its driver's JVM would spend on compiling better what it hardly
            # uses: session and two small batches take 15 s of CPU time instead of 31 s.
            options.append(class_archive.QUICK_START)
            # Nor would somebody who watches wait for a retry as long as a production does.
            environment.setdefault("MILLRACE_RETRY_DELAY_SECONDS", str(RETRY_SECONDS))
        environment["SPARK_SUBMIT_OPTS"] = class_archive.submit_options(options, environment)
        self._prepare_logs()
        self.airflow = Airflow(
            settings, environment | airflow_environment(settings, keys, LOOP_SECONDS[self.instance.record.command])
        )
        self.broker = Broker(
            BrokerSettings(
                java=java,
                jars=found["kafka"],
                directory=settings.home / "kafka",
                port=settings.kafka_port,
                controller_port=settings.controller_port,
                log_file=settings.logs / "kafka.log",
                short_lived=short_lived,
                environment=environment,
            )
        )
        self.airflow.launch()
        self.broker.launch()
        self.broker.wait_ready(BROKER_SECONDS)
        self.say(f"Kafka serves at {settings.bootstrap_servers} after {time.monotonic() - began:.0f} s.")
        self.client = self._wait_for_airflow(dag_ids, parts, keys.password)
        self.client.import_pools(REPOSITORY / "dags" / "pools.json")
        mark_migrated(settings)
        self.instance.set_state("ready")
        self.say(f"Airflow serves at {settings.airflow_url} after {time.monotonic() - began:.0f} s.")
        return self.client

    def watch(self) -> None:
        """Start again what died, saying so. To be called about twice a second.

        Raises:
            UserError: it died too often, or can't be started.
        """
        if self.broker and not self.broker.running:
            self._count("Kafka", str(self.broker.settings.log_file))
            self.say("Kafka has ended unexpectedly; starting it again on the same data.")
            self.broker.launch()
            self._broker_restarted_at = time.monotonic()
        elif self.broker and self._broker_restarted_at and self.broker.answers():
            self.say(f"Kafka serves again after {time.monotonic() - self._broker_restarted_at:.0f} s.")
            self._broker_restarted_at = 0.0
        if self.airflow and not self.airflow.running:
            why = self.airflow.why_ended()
            self._count("Airflow", f"{self.settings.logs}/airflow-*.log")
            self.say(f"Airflow has ended unexpectedly ({why}); starting it again.")
            self.airflow.launch()

    def stop(self) -> None:
        """End everything in order: Airflow's loops, the applications (gracefully), the broker, whatever is left."""
        self.instance.set_state("stopping")
        # First Airflow, so that nobody starts again what is being stopped.
        if self.airflow:
            self.airflow.stop()
        stop_applications(self.settings, self.say)
        if self.broker:
            self.broker.stop()
        self.instance.end_processes()

    def _count(self, name: str, log: str) -> None:
        self._restarts[name] += 1
        if self._restarts[name] > MOST_RESTARTS:
            raise UserError(f"{name} has ended {self._restarts[name]} times, so it is given up: see {log}.")

    def _prepare_logs(self) -> None:
        self.settings.logs.mkdir(parents=True, exist_ok=True)
        for log in self.settings.logs.glob("*.log"):
            if log.name != "supervisor.log":
                rotate(log)

    def _wait_for_airflow(self, dag_ids: tuple[str, ...], parts: tuple[str, ...], password: str) -> AirflowClient:
        client = AirflowClient(self.settings.airflow_url, password)
        deadline = time.monotonic() + AIRFLOW_SECONDS
        missing = "Airflow"
        while time.monotonic() < deadline:
            if self.airflow and not self.airflow.running:
                raise UserError(
                    f"Airflow did not start ({self.airflow.why_ended()}): see {self.settings.logs}/airflow-*.log."
                )
            missing = client.not_ready(dag_ids, self.instance.record.created, parts)
            if not missing:
                return client
            time.sleep(0.1)
        raise UserError(
            f"{missing} did not get ready within {AIRFLOW_SECONDS:.0f} s: see {self.settings.logs}/airflow-*.log."
        )


def prepare_jars(java: Java, settings: Settings, say: Say) -> dict[str, Path]:
    """Fetch and verify the jars; return the folder of each set.

    Raises:
        UserError: one differs from the lock or can't be downloaded.
    """
    if not all((settings.jars / name).is_dir() for name in jars.RUNTIME_SETS):
        count = sum(jar.set_name in jars.RUNTIME_SETS for jar in jars.read_lock())
        say(f"Downloading {count} jars of Kafka and Spark to {settings.jars} (60 MB, once).")
    return jars.fetch(java, settings.jars)


def child_environment(
    settings: Settings, java: Java, spark_jars: Path, environment: Mapping[str, str]
) -> dict[str, str]:
    """What every part is started with: the user's environment without most of Airflow's settings, and ours."""
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("AIRFLOW_") or name.startswith(KEPT_SETTINGS)
    }
    local = "127.0.0.1,localhost"
    return kept | {
        "PYTHONPATH": os.pathsep.join(str(REPOSITORY / folder) for folder in ("", "dags", "spark-apps")),
        "PYTHONUNBUFFERED": "1",
        # Airflow sets the titles of its processes; by default that overwrites the environment by which we find them.
        "SPT_NOENV": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)]),
        "JAVA_HOME": str(home_for_spark(java, settings.home / "java")),
        "KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "MILLRACE_TARGET": "embedded",
        "MILLRACE_HOME": str(settings.home),
        "MILLRACE_STORAGE": settings.storage_url,
        "MILLRACE_SPARK_JARS": str(spark_jars),
        # The parts talk to each other on this machine, whatever proxy leads out of it.
        "NO_PROXY": ",".join(filter(None, [environment.get("NO_PROXY"), local])),
        "no_proxy": ",".join(filter(None, [environment.get("no_proxy"), local])),
    }
