"""Pods that try what they may not, from inside of the cluster, and one that may."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.interface import Cluster
from tests.images.dockerfiles import VERSION

IMAGE = f"millrace/ingest:{VERSION}"
PURPOSE = {"millrace.test/probe": "true"}

BROKER = "millrace-kafka-bootstrap.millrace.svc:9093"
DATABASE = "postgresql.millrace.svc:5432"
STORE = "object-store.millrace.svc:7070"

CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor

def attempt(place):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=4).close()
    except OSError as error:
        return f"no: {error}"
    return "yes"

with ThreadPoolExecutor() as pool:
    print(json.dumps(dict(zip(sys.argv[1:], pool.map(attempt, sys.argv[1:])))))
"""


@dataclass(frozen=True)
class Probe:
    """A pod that does nothing by itself, unless it is given a command."""

    name: str
    namespace: str
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    kafka_user: str = ""
    """Whose password it gets."""
    image: str = IMAGE
    command: tuple[str, ...] = ("sleep", "7200")
    ready_port: int = 0
    """Where it listens once it is ready; 0 if it does not listen."""

    def manifest(self) -> dict[str, Any]:
        """Return the pod, such as Pod Security `restricted` lets in."""
        container: dict[str, Any] = {
            "name": "probe",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": list(self.command),
            "resources": {"requests": {"cpu": "1m", "memory": "32Mi"}, "limits": {"memory": "256Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        if self.ready_port:
            container["readinessProbe"] = {"tcpSocket": {"port": self.ready_port}, "periodSeconds": 1}
        pod: dict[str, Any] = {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
        }
        if self.kafka_user:
            password = {"secretKeyRef": {"name": f"kafka-user-{self.kafka_user}", "key": "password"}}
            container["env"] = [{"name": "KAFKA_PASSWORD", "valueFrom": password}]
            container["env"] += [{"name": "KAFKA_USERNAME", "value": self.kafka_user}]
            container["envFrom"] = [{"configMapRef": {"name": "millrace"}}]
            container["volumeMounts"] = [{"name": "kafka-ca", "mountPath": "/etc/millrace/kafka", "readOnly": True}]
            pod["volumes"] = [{"name": "kafka-ca", "secret": {"secretName": "kafka-ca"}}]
        metadata = {"name": self.name, "namespace": self.namespace, "labels": {**PURPOSE, **self.labels}}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}

    def wait(self, cluster: Cluster) -> None:
        """Wait until it is ready."""
        cluster.kubectl("wait", "pod", self.name, "--for=condition=Ready", "--timeout=120s", namespace=self.namespace)

    def run(self, cluster: Cluster, code: str, *arguments: str) -> Any:
        """Run Python in it; return the JSON that it prints. Raises RuntimeError if it fails."""
        command = ("exec", self.name, "--", "python", "-c", code, *arguments)
        return json.loads(cluster.kubectl(*command, namespace=self.namespace).stdout.strip().splitlines()[-1])

    def reaches(self, cluster: Cluster, *places: str) -> dict[str, str]:
        """Return for each host:port `yes`, or `no` and why."""
        return self.run(cluster, CONNECT, *places)


# Whoever no policy speaks of.
OUTSIDER = Probe("probe", "default")
UNLABELLED = Probe("probe", "streams")
OTHER_OF_AIRFLOW = Probe("probe", "airflow")
# As those that the policies let through. Neither has a port, so nothing scrapes them or sends them requests.
FEED = Probe("probe-feed", "streams", {"app.kubernetes.io/component": "ingest"}, kafka_user="ingest")
DRIVER = Probe("probe-driver", "streams", {"spark-role": "driver"})
MIGRATION = Probe("probe-migration", "airflow", {"tier": "airflow", "component": "run-airflow-migrations"})

PROBES = (OUTSIDER, UNLABELLED, OTHER_OF_AIRFLOW, FEED, DRIVER, MIGRATION)


@contextmanager
def running(cluster: Cluster, probe: Probe) -> Iterator[None]:
    """Have one that is not among PROBES run."""
    cluster.kubectl("create", "--filename=-", given=[probe.manifest()])
    try:
        probe.wait(cluster)
        yield
    finally:
        cluster.kubectl("delete", "pod", probe.name, namespace=probe.namespace)


def start_probes(cluster: Cluster) -> None:
    """Start all, anew, and wait until they run."""
    stop_probes(cluster)
    cluster.kubectl("create", "--filename=-", given=[probe.manifest() for probe in PROBES])
    for probe in PROBES:
        probe.wait(cluster)


def stop_probes(cluster: Cluster) -> None:
    """End all."""
    for namespace in sorted({probe.namespace for probe in PROBES}):
        cluster.kubectl(
            "delete", "pod", "--selector=millrace.test/probe=true", "--ignore-not-found", namespace=namespace
        )
