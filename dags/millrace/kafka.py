"""Kafka's side of a pipeline: is the broker there, which topics exist, and how far do they reach.

Clients are configured by the Airflow connection `kafka_default` (its extra holds librdkafka's settings).
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from millrace.errors import MillraceError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

CONNECTION_ID = "kafka_default"
REQUEST_TIMEOUT = 15.0
"""Seconds for one request to the broker."""
DELETION_TIMEOUT = 60.0
"""Seconds for a deleted topic to be gone."""

LEADER_ERRORS = (
    "LEADER_NOT_AVAILABLE",
    "NOT_LEADER_FOR_PARTITION",
    "UNKNOWN_TOPIC_OR_PART",
    "UNKNOWN_LEADER_EPOCH",
    "FENCED_LEADER_EPOCH",
)
"""What a broker answers for a moment after a topic was created, or was made again under the same name."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TopicSpec:
    """A topic as contracts/topics.yaml describes it."""

    name: str
    partitions: int
    config: Mapping[str, str]


def connection_config(connection_id: str = CONNECTION_ID) -> dict[str, Any]:
    """Return librdkafka's settings from an Airflow connection.

    Raises MillraceError if the connection doesn't exist or names no broker.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    variable = f"AIRFLOW_CONN_{connection_id.upper()}"
    hint = f'add it with extra {{"bootstrap.servers": "host:port"}}, or set {variable}.'
    try:
        config = Connection.get(connection_id).extra_dejson
    except AirflowNotFoundException as error:
        raise MillraceError(
            f"There is no Airflow connection `{connection_id}` to say where Kafka is: {hint}"
        ) from error
    if not config.get("bootstrap.servers"):
        raise MillraceError(f"The Airflow connection `{connection_id}` names no broker: {hint}")
    return {**config, "logger": log}


def load_topics(path: Path) -> dict[str, TopicSpec]:
    """Read contracts/topics.yaml.

    Raises MillraceError if it can't be read or a topic lacks a number of partitions.
    """
    try:
        topics = yaml.safe_load(path.read_text())["topics"]
        return {
            name: TopicSpec(
                name=name,
                partitions=int(topic["partitions"]),
                config={key: str(value) for key, value in (topic.get("config") or {}).items()},
            )
            for name, topic in topics.items()
        }
    except OSError as error:
        raise MillraceError(f"Cannot read the topics in {path}: {error.strerror}; check the path.") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise MillraceError(
            f"{path} does not describe topics ({type(error).__name__}: {detail}): correct it."
        ) from error


def admin_client(config: Mapping[str, Any]) -> "AdminClient":
    """Return an admin client."""
    from confluent_kafka.admin import AdminClient

    return AdminClient(dict(config))


def check_broker(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cluster's id and brokers. Raises MillraceError if no broker answers."""
    from confluent_kafka import KafkaException

    servers = config["bootstrap.servers"]
    try:
        metadata = admin_client(config).list_topics(timeout=REQUEST_TIMEOUT)
    except KafkaException as error:
        raise MillraceError(
            f"No Kafka broker answers at {servers} within {REQUEST_TIMEOUT:g} s ({error.args[0].str()}): "
            "check that it runs and that the connection's address and security settings are right."
        ) from error
    brokers = [f"{broker.host}:{broker.port}" for broker in metadata.brokers.values()]
    return {"cluster_id": metadata.cluster_id, "brokers": brokers, "topics": len(metadata.topics)}


def existing_partitions(admin: "AdminClient") -> dict[str, int]:
    """Return every topic with its number of partitions. Raises MillraceError if no broker answers."""
    from confluent_kafka import KafkaException

    try:
        topics = admin.list_topics(timeout=REQUEST_TIMEOUT).topics
    except KafkaException as error:
        raise MillraceError(f"Kafka does not list its topics ({error.args[0].str()}): check the broker.") from error
    return {name: len(topic.partitions) for name, topic in topics.items() if topic.error is None}


def create_topics(config: Mapping[str, Any], topics: Sequence[TopicSpec], replicas: int = -1) -> list[str]:
    """Create those of `topics` that don't exist; return their names.

    `replicas` -1 means the broker's default.

    Raises MillraceError if one exists with another number of partitions, or the broker refuses.
    """
    from confluent_kafka.admin import NewTopic

    admin = admin_client(config)
    present = existing_partitions(admin)
    for topic in topics:
        if present.get(topic.name, topic.partitions) != topic.partitions:
            raise MillraceError(
                f"Topic {topic.name} has {present[topic.name]} partitions, its contract says {topic.partitions}: "
                "correct the contract, or run with mode `restart`, which makes a pipeline's own topics anew."
            )
    missing = [topic for topic in topics if topic.name not in present]
    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=replicas,
            config=dict(topic.config),
        )
        for topic in missing
    ]
    if new:
        _await_all(
            admin.create_topics(new, operation_timeout=REQUEST_TIMEOUT),
            "create",
            tolerate="TOPIC_ALREADY_EXISTS",
        )
        _await_leaders(admin, missing)
    return [topic.name for topic in missing]


def delete_topics(config: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Delete those of `names` that exist, wait until they are gone, and return them.

    Raises MillraceError if the broker refuses or takes longer than a minute.
    """
    if not names:
        return []
    admin = admin_client(config)
    # All are asked for, whatever the metadata says: a broker may not have heard yet of a topic that was just made.
    futures = admin.delete_topics(list(names), operation_timeout=REQUEST_TIMEOUT)
    deleted = _await_all(futures, "delete", tolerate="UNKNOWN_TOPIC_OR_PART")
    deadline = time.monotonic() + DELETION_TIMEOUT
    while deleted and (left := set(deleted) & set(existing_partitions(admin))):
        if time.monotonic() >= deadline:
            raise MillraceError(
                f"Topics {', '.join(sorted(left))} are still there {DELETION_TIMEOUT:g} s after their "
                "deletion was asked "
                "for: check that the broker allows it (delete.topic.enable) and has space on its disk."
            )
        time.sleep(0.1)
    return deleted


def end_offsets(config: Mapping[str, Any], topic: str) -> dict[int, int]:
    """Return the end offset (that of the next record) of each partition; empty if there is no such topic."""
    return {partition: end for partition, (_, end) in offset_ranges(config, topic).items()}


def offset_ranges(config: Mapping[str, Any], topic: str) -> dict[int, tuple[int, int]]:
    """Return the first and the end offset of each partition; empty if there is no such topic.

    Waits for the leaders of a topic that was only just created. Raises MillraceError if the broker doesn't answer.
    """
    from confluent_kafka import KafkaException, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    admin = admin_client(config)
    partitions = [TopicPartition(topic, number) for number in range(existing_partitions(admin).get(topic, 0))]
    if not partitions:
        return {}
    found: list[dict[int, int]] = []
    deadline = time.monotonic() + REQUEST_TIMEOUT
    while len(found) < 2:
        spec = OffsetSpec.latest() if found else OffsetSpec.earliest()
        futures = admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=REQUEST_TIMEOUT)
        try:
            found.append({key.partition: future.result().offset for key, future in futures.items()})
        except KafkaException as error:
            if error.args[0].name() not in LEADER_ERRORS or time.monotonic() >= deadline:
                reason = error.args[0].str()
                raise MillraceError(
                    f"Kafka does not say how far {topic} reaches ({reason}): check the broker."
                ) from error
            time.sleep(0.1)
    return {number: (found[0][number], found[1][number]) for number in sorted(found[0])}


def offsets_at(config: Mapping[str, Any], topic: str, moment: datetime) -> dict[int, int]:
    """Return the offset of each partition's first record that was sent at `moment` or later, its end if there is none.

    Empty if there is no such topic. Raises MillraceError if the broker doesn't answer.
    """
    from confluent_kafka import KafkaException, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    ends = end_offsets(config, topic)
    if not ends:
        return {}
    spec = OffsetSpec.for_timestamp(int(moment.timestamp() * 1000))
    asked = {TopicPartition(topic, number): spec for number in ends}
    admin = admin_client(config)  # Kept: a client that nobody holds answers nothing.
    futures = admin.list_offsets(asked, request_timeout=REQUEST_TIMEOUT)
    try:
        found = {key.partition: future.result().offset for key, future in futures.items()}
    except KafkaException as error:
        reason = error.args[0].str()
        raise MillraceError(
            f"Kafka does not say what {topic} held at {moment} ({reason}): check the broker."
        ) from error
    return {number: found[number] if found[number] >= 0 else end for number, end in ends.items()}


def count_records(config: Mapping[str, Any], topic: str) -> int:
    """Return how many records a topic holds, by its offsets (exact unless compacted or transactional)."""
    return sum(end - first for first, end in offset_ranges(config, topic).values())


def _await_leaders(admin: "AdminClient", topics: Sequence[TopicSpec]) -> None:
    """Wait until new topics can be written to: the broker says that they are made a moment earlier."""
    deadline = time.monotonic() + REQUEST_TIMEOUT
    while True:
        known = admin.list_topics(timeout=REQUEST_TIMEOUT).topics
        led = {name: [p for p in topic.partitions.values() if p.leader >= 0] for name, topic in known.items()}
        late = [topic.name for topic in topics if len(led.get(topic.name, ())) < topic.partitions]
        if not late:
            return
        if time.monotonic() >= deadline:
            raise MillraceError(f"Topics {', '.join(late)} were created but have no leader yet: check the broker.")
        time.sleep(0.05)


def _await_all(futures: Mapping[str, Any], verb: str, tolerate: str) -> list[str]:
    """Wait for the broker's answers; return the topics that it was done for, without those that were so already."""
    from confluent_kafka import KafkaException

    done = []
    for name, future in futures.items():
        try:
            future.result()
            done.append(name)
        except KafkaException as error:
            # Somebody else was faster; what we wanted is so.
            if error.args[0].name() != tolerate:
                raise MillraceError(f"Kafka does not {verb} topic {name}: {error.args[0].str()}.") from error
    return done
