"""What runs in a Kafka pod: reads the node's keys, prepares its volume the first time, and becomes Kafka.

The keys come from the API server and not from a mounted secret, because that is how Strimzi 1.2 does it: a policy that
keeps a broker from the API server keeps it from starting.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.standins.strimzi import properties, secrets
from tests.cluster.standins.strimzi.api import Api
from tests.cluster.standins.strimzi.clusters import METADATA_VERSION

LOG_CONFIGURATION = Path(__file__).with_name("kafka-log4j2.xml")
CONFIGURATION = Path("/opt/kafka/custom-config")
STATE = f"{properties.KEYS}/state.log"
STARTED = "Kafka Server started"
JVM_OPTIONS = [
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Installation:
    """Where Java and Kafka are."""

    java: Path
    jars: tuple[Path, ...]

    def command(self, options: list[str], main_class: str, *arguments: str) -> list[str]:
        """Return the command that runs a class of Kafka's."""
        classes = ":".join(f"{folder}/*" for folder in self.jars)
        logs = f"-Dlog4j2.configurationFile={LOG_CONFIGURATION}"
        return [str(self.java), *JVM_OPTIONS, *options, logs, "-cp", classes, main_class, *arguments]


def installation(environment: Mapping[str, str]) -> Installation:
    """Return what the image has."""
    kafka = Path(environment.get("KAFKA_HOME", "/opt/kafka"))
    java = Path(environment.get("JAVA_HOME", "/opt/java")) / "bin" / "java"
    return Installation(java, (kafka / "libs", kafka / "reporter"))


def main() -> None:
    """Become the node that the environment describes; doesn't return. Raises ApiError."""
    # That of the container before this one, in the same pod, says nothing of this one.
    Path(STATE).unlink(missing_ok=True)
    namespace, cluster, node = (os.environ[name] for name in ("NAMESPACE", "CLUSTER", "NODE"))
    read_keys(Api.in_pod("kafka"), namespace, cluster, node)
    cluster_id = (CONFIGURATION / "cluster.id").read_text().strip()
    prepare(installation(os.environ), CONFIGURATION / "server.config", cluster_id)
    command = installation(os.environ).command(
        os.environ.get("KAFKA_JVM_OPTIONS", "").split(), "kafka.Kafka", str(CONFIGURATION / "server.config")
    )
    # In place of this process, so that Kafka itself hears when it is to stop.
    os.execv(command[0], command)  # noqa: S606 - no shell


def read_keys(api: Api, namespace: str, cluster: str, node: str) -> None:
    """Write the node's key and certificates to where its settings say that they are."""
    own, authority = (api.get("Secret", namespace, name) for name in (node, secrets.cluster_authority(cluster)))
    if own is None or authority is None:
        sys.exit(f"The secrets {node} and {secrets.cluster_authority(cluster)} are not there yet.")
    folder = Path(properties.KEYS)
    folder.mkdir(mode=0o700, exist_ok=True)
    # Kafka reads both from one file.
    together = secrets.value(own, f"{node}.key") + secrets.value(own, f"{node}.crt")
    for path, text in ((properties.KEY_STORE, together), (properties.AUTHORITY, secrets.value(authority, "ca.crt"))):
        Path(path).touch(mode=0o600)
        Path(path).write_text(text)


def prepare(kafka: Installation, configuration: Path, cluster_id: str) -> None:
    """Write to the node's volume which cluster and which node it is of, if that isn't there."""
    [data] = [line.partition("=")[2] for line in configuration.read_text().splitlines() if line.startswith("log.dirs=")]
    if (Path(data) / "meta.properties").exists():
        return
    # An interrupted attempt leaves files but no meta.properties; --ignore-formatted completes it.
    arguments = ["format", "--ignore-formatted", f"--cluster-id={cluster_id}", f"--config={configuration}"]
    arguments += [f"--release-version={METADATA_VERSION}"]
    command = kafka.command(["-Xmx128m"], "kafka.tools.StorageTool", *arguments)
    result = subprocess.run(command, check=False)
    if result.returncode:
        sys.exit(f"Kafka's volume {data} could not be prepared; what StorageTool wrote is above.")
