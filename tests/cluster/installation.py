"""What an installation consists of, before and after something is done to it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.interface import Cluster
from tests.cluster.platform import NAMESPACES, Platform, unsettled
from tests.cluster.probes import FEED
from tests.cluster.waiting import eventually

Key = tuple[str, str, str]
"""Kind, namespace and name."""

WHOLE = (
    *("configmaps", "secrets", "services", "serviceaccounts", "roles", "rolebindings", "clusterroles"),
    *("clusterrolebindings", "networkpolicies", "priorityclasses"),
    *("podmonitors.monitoring.coreos.com", "servicemonitors.monitoring.coreos.com"),
    "prometheusrules.monitoring.coreos.com",
)
"""Kinds that nobody writes to but those who install: any change shows."""
DESIRED = (
    *("deployments", "statefulsets", "daemonsets"),
    *(f"{kind}.kafka.strimzi.io" for kind in ("kafkas", "kafkanodepools", "kafkatopics", "kafkausers")),
    *("prometheuses.monitoring.coreos.com", "alertmanagers.monitoring.coreos.com"),
)
"""Kinds that have a status, which may change by itself: what is asked for shows in the generation."""
OWNERS = ("ReplicaSet", "StatefulSet", "DaemonSet", "StrimziPodSet")
HELM = "meta.helm.sh/release-name"

TOPIC = "input-topic"
RECORDS = 500
RETENTION = "43200000"
MEMORY = {"postgresql": "640Mi", "object-store": "640Mi", "millrace-kafka": "1600Mi"}
"""The new limit of memory, by the name of the pods' service."""
CHANGES: dict[str, Any] = {
    "topics": {TOPIC: {"config": {"retention.ms": RETENTION}}},
    "postgresql": {"resources": {"limits": {"memory": MEMORY["postgresql"]}}},
    "objectStore": {"resources": {"limits": {"memory": MEMORY["object-store"]}}},
    "kafka": {"brokers": {"resources": {"limits": {"memory": MEMORY["millrace-kafka"]}}}},
}
PODS = {
    "postgresql": "app.kubernetes.io/name=postgresql",
    "object-store": "app.kubernetes.io/name=object-store",
    "millrace-kafka": "strimzi.io/name=millrace-kafka",
}
ROLL_SECONDS = 300

SEND = """
import json, os, sys
from confluent_kafka import Producer
from ingest.kafka import security_config

topic, count = sys.argv[1], int(sys.argv[2])
failures = []
producer = Producer({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP_SERVERS"], **security_config()})
for number in range(count):
    producer.produce(topic, b"%d" % number, on_delivery=lambda error, _: failures.append(str(error)) if error else None)
print(json.dumps({"left": producer.flush(60), "failures": failures[:3]}))
"""
LOOK = """
import json, os, sys, time
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

topic = sys.argv[1]
extra = json.loads(os.environ["AIRFLOW_CONN_KAFKA_DEFAULT"])["extra"]
consumer = Consumer({**extra, "group.id": "millrace-test", "enable.auto.commit": False})
numbers = consumer.list_topics(topic, 30).topics[topic].partitions
ends = {number: consumer.get_watermark_offsets(TopicPartition(topic, number), 30) for number in numbers}
left = {number: last for number, (first, last) in ends.items() if last > first}
consumer.assign([TopicPartition(topic, number, ends[number][0]) for number in left])
read = []
while left:
    record = consumer.poll(30)
    if record is None or record.error():
        break
    read.append(record.value().decode())
    if record.offset() >= left[record.partition()] - 1:
        del left[record.partition()]
# Group, lag and members of it are among what the dashboards show. A broker that was just started, or that makes the
# topic of the groups' offsets for its first group, keeps nothing for a moment.
elsewhere = (
    KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS
)
wanted = [TopicPartition(topic, number, last) for number, (_, last) in ends.items()]
deadline = time.monotonic() + 60
while True:
    try:
        consumer.commit(offsets=wanted, asynchronous=False)
        break
    except KafkaException as error:
        if error.args[0].code() not in elsewhere or time.monotonic() > deadline:
            raise
        time.sleep(0.2)
consumer.close()
resource = ConfigResource(ResourceType.TOPIC, topic)
admin = AdminClient(extra)
settings = admin.describe_configs([resource])[resource].result(30)
ends = {str(number): last for number, (_, last) in ends.items()}
print(json.dumps({"ends": ends, "values": read, "retention": settings["retention.ms"].value}))
"""


@dataclass(frozen=True)
class Topic:
    """A topic as its broker has it."""

    ends: dict[str, int]
    """The offset of the next record, by partition."""
    values: list[str]
    """Of all records."""
    retention: str


@dataclass(frozen=True)
class State:
    """What must outlast an upgrade."""

    topic: Topic
    objects: set[str]
    """Names in the bucket."""
    pods: dict[str, str]
    """Uid of the pod of each part that holds data."""


@dataclass(frozen=True)
class Upgrade:
    """What there was before and after."""

    before: State
    after: State


def installed_objects(cluster: Cluster) -> dict[Key, str]:
    """Return what helm and the installer have made, with what changes when somebody changes it."""
    found: dict[Key, str] = {}
    for kind, thing in _all(cluster, WHOLE):
        metadata = thing["metadata"]
        if not str(thing.get("type", "")).startswith("helm.sh/") and _is_ours(metadata):
            found[_key(kind, metadata)] = metadata["resourceVersion"]
    for kind, thing in _all(cluster, DESIRED):
        metadata = thing["metadata"]
        if _is_ours(metadata):
            found[_key(kind, metadata)] = f"{metadata['uid']} {metadata.get('generation')}"
    return found


def lasting_pods(cluster: Cluster) -> dict[Key, str]:
    """Return the pods that something keeps alive, with their uids and how often they were started again."""
    found: dict[Key, str] = {}
    for kind, thing in _all(cluster, ("pods",)):
        metadata = thing["metadata"]
        if any(owner["kind"] in OWNERS for owner in metadata.get("ownerReferences", ())):
            restarts = sum(each["restartCount"] for each in thing["status"].get("containerStatuses", ()))
            found[_key(kind, metadata)] = f"{metadata['uid']}, restarted {restarts} times"
    return {key: value for key, value in found.items() if key[1] in NAMESPACES}


def upgrade(platform: Platform, folder: Path) -> Upgrade:
    """Put records into a topic, upgrade the chart millrace with other values, and look before and after."""
    sent = FEED.run(platform.cluster, SEND, TOPIC, str(RECORDS))
    assert sent == {"left": 0, "failures": []}
    before = state(platform)
    (folder / "millrace.yaml").write_text(yaml.safe_dump(CHANGES))
    platform.values = (*platform.values, folder)
    platform.install("--only", "millrace")
    for name in MEMORY:
        eventually(lambda name=name: is_rolled(platform, name), f"{name} with its new memory", ROLL_SECONDS, every=1)  # type: ignore[misc]
    # Who lost the database meanwhile has found it again.
    eventually(lambda: not unsettled(platform.cluster), "Airflow to be whole", ROLL_SECONDS, every=1)
    return Upgrade(before, state(platform))


def state(platform: Platform) -> State:
    """Return what there is now."""
    pods = {name: platform.pods("millrace", PODS[name])[0]["metadata"]["uid"] for name in PODS}
    return State(look_at_topic(platform.cluster, TOPIC), set(platform.bucket.names()), pods)


def look_at_topic(cluster: Cluster, topic: str) -> Topic:
    """Return a topic, read as Airflow's user of Kafka in a pod of Airflow's."""
    place = ("exec", "deployment/airflow-triggerer", "--container=triggerer", "--")
    done = cluster.kubectl(*place, "python", "-c", LOOK, topic, namespace="airflow")
    return Topic(**json.loads(done.stdout.strip().splitlines()[-1]))


def is_rolled(platform: Platform, name: str) -> bool:
    """Whether a part runs with its new limit, and has no other pod."""
    pods = platform.pods("millrace", PODS[name])
    ready = [
        {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}.get("Ready") == "True"
        for pod in pods
    ]
    limits = [pod["spec"]["containers"][0]["resources"].get("limits", {}).get("memory") for pod in pods]
    return ready == [True] and limits == [MEMORY[name]]


def _all(cluster: Cluster, kinds: Iterable[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    for thing in cluster.get(",".join(kinds), "--all-namespaces")["items"]:
        yield thing["kind"], thing


def _is_ours(metadata: dict[str, Any]) -> bool:
    made_by_installer = metadata.get("labels", {}).get("app.kubernetes.io/part-of") == "millrace"
    return HELM in metadata.get("annotations", {}) or (made_by_installer and metadata.get("namespace") in NAMESPACES)


def _key(kind: str, metadata: dict[str, Any]) -> Key:
    return kind, metadata.get("namespace", ""), metadata["name"]
