"""A Kafka and its node pool as the stand-in reads them, and what of them it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.cluster.standins.strimzi.names import labels

KAFKA_VERSION, METADATA_VERSION = "4.3.1", "4.3-IV0"
LISTENERS = {"plain": (9092, False, None), "tls": (9093, True, "scram-sha-512")}
# What the operator sets itself; of these, Strimzi takes nothing from `config`.
FORBIDDEN = [
    "advertised.",
    "authorizer.",
    "broker.",
    "controller.",
    "listener.",
    "listeners",
    "log.dir",
    "metadata.log.dir",
    "node.id",
    "password.",
    "process.roles",
    "prometheus.metrics.reporter.",
    "sasl.",
    "security.",
    "ssl.",
    "super.user",
    "inter.broker.listener.name",
]
ALLOWED = [
    "broker.heartbeat.interval.ms",
    "broker.session.timeout.ms",
    "controller.quorum.election.backoff.max.ms",
    "controller.quorum.election.timeout.ms",
    "controller.quorum.fetch.timeout.ms",
    "controller.socket.timeout.ms",
    "sasl.server.max.receive.size",
    "ssl.cipher.suites",
    "ssl.enabled.protocols",
    "ssl.protocol",
]


class RefusedError(Exception):
    """The stand-in, or Kafka, can't do what a resource asks for. `reason` is the condition's."""

    def __init__(self, message: str, reason: str = "InvalidResourceException") -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Pool:
    """A node pool of one node, which is broker and controller."""

    name: str
    resource: dict[str, Any]

    @property
    def spec(self) -> dict[str, Any]:
        return self.resource["spec"]

    @property
    def volume(self) -> dict[str, Any]:
        """The one volume."""
        return self.spec["storage"]["volumes"][0]


@dataclass(frozen=True)
class Cluster:
    """A Kafka with its pool."""

    kafka: dict[str, Any]
    pool: Pool

    @property
    def name(self) -> str:
        return self.kafka["metadata"]["name"]

    @property
    def namespace(self) -> str:
        return self.kafka["metadata"]["namespace"]

    @property
    def spec(self) -> dict[str, Any]:
        """What is said of the brokers."""
        return self.kafka["spec"]["kafka"]

    @property
    def node(self) -> str:
        """The name of the one pod."""
        return f"{self.name}-{self.pool.name}-0"

    @property
    def claim(self) -> str:
        """The name of the pod's PersistentVolumeClaim."""
        return f"data-{self.pool.volume['id']}-{self.node}"

    @property
    def secured(self) -> bool:
        """Whether rules say who may do what."""
        return "authorization" in self.spec

    def labels(self, part: str = "kafka") -> dict[str, str]:
        """Return the labels of what is made for a part: kafka, entity-operator, kafka-exporter."""
        return labels(self.kafka, f"{self.name}-{part}", part)

    def metadata(self, name: str, part: str = "kafka", **more: Any) -> dict[str, Any]:
        """Return the metadata of an object of this cluster; it goes when the Kafka goes."""
        owner = {each: self.kafka[each] for each in ("apiVersion", "kind")}
        owner |= {each: self.kafka["metadata"][each] for each in ("name", "uid")}
        owner |= {"controller": True, "blockOwnerDeletion": False}
        found = {"name": name, "namespace": self.namespace, "labels": self.labels(part), "ownerReferences": [owner]}
        return found | more

    def settings(self) -> tuple[dict[str, str], list[str]]:
        """Return the brokers' settings that the resource gives, and the names of those that it may not give."""
        given = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in self._config()}
        ignored = [name for name in given if name not in ALLOWED and name.startswith(tuple(FORBIDDEN))]
        return {name: value for name, value in given.items() if name not in ignored}, ignored

    def _config(self) -> list[tuple[str, Any]]:
        return sorted((self.spec.get("config") or {}).items())


def read(kafka: dict[str, Any], pools: list[dict[str, Any]]) -> Cluster:
    """Return the cluster that these resources describe. Raises RefusedError if it is more than the stand-in can."""
    for problem in _problems(kafka["spec"], [pool["spec"] for pool in pools]):
        raise RefusedError(f"The stand-in for Strimzi {problem}.")
    return Cluster(kafka, Pool(pools[0]["metadata"]["name"], pools[0]))


def _problems(spec: Mapping[str, Any], pools: list[dict[str, Any]]) -> list[str]:
    kafka = spec["kafka"]
    problems = []
    if kafka.get("version", KAFKA_VERSION) != KAFKA_VERSION:
        problems.append(f"has Kafka {KAFKA_VERSION} only, not {kafka['version']}")
    if [(set(pool["roles"]), pool["replicas"]) for pool in pools] != [({"broker", "controller"}, 1)]:
        problems.append("runs one node that is broker and controller: one node pool, one replica, both roles")
    for pool in pools:
        volumes = pool.get("storage", {}).get("volumes") or []
        if pool["storage"]["type"] != "jbod" or [each["type"] for each in volumes] != ["persistent-claim"]:
            problems.append("stores on one volume of type persistent-claim, in a storage of type jbod")
    for listener in kafka["listeners"]:
        found = (listener["port"], listener["tls"], (listener.get("authentication") or {}).get("type"))
        if listener["type"] != "internal" or LISTENERS.get(listener["name"]) != found:
            problems.append(
                "knows two listeners, both internal: plain, 9092, without authentication, and tls, 9093, "
                f"with scram-sha-512; not this one: {listener['name']}"
            )
    if kafka.get("authorization", {}).get("type", "simple") != "simple":
        problems.append("knows authorization of type simple only")
    if kafka.get("metricsConfig", {}).get("type", "strimziMetricsReporter") != "strimziMetricsReporter":
        problems.append("knows metrics of type strimziMetricsReporter only")
    known = {"config", "listeners", "authorization", "metricsConfig", "template", "version"}
    problems += [f"does nothing with spec.kafka.{name}" for name in kafka.keys() - known]
    problems += [
        f"does nothing with spec.{name}" for name in spec.keys() - {"kafka", "entityOperator", "kafkaExporter"}
    ]
    return problems
