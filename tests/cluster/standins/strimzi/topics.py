"""KafkaTopics: what each says, done in Kafka."""

import time
from typing import Any

from confluent_kafka import KafkaError, TopicCollection
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
    TopicDescription,
)

from tests.cluster.standins.strimzi.api import Api, ApiError
from tests.cluster.standins.strimzi.clusters import RefusedError
from tests.cluster.standins.strimzi.kafka import Kafka

FINALIZER = "strimzi.io/topic-operator"
# The broker's own default, of partitions and of replicas.
DEFAULT = -1


class Topics:
    """Does in Kafka as KafkaTopics say."""

    kind = "KafkaTopic"

    def __init__(self, api: Api, kafka: Kafka) -> None:
        self._api, self._kafka = api, kafka

    def reconcile(self, resource: dict[str, Any]) -> dict[str, Any] | None:
        """Do as a resource says. Return the fields of its status; None if it is on its way out. Raises RefusedError."""
        name = resource["spec"].get("topicName") or resource["metadata"]["name"]
        metadata = resource["metadata"]
        managed = (metadata.get("annotations") or {}).get("strimzi.io/managed") != "false"
        if "deletionTimestamp" in metadata:
            if managed:
                self._delete(name)
            self._finalizers(resource, [each for each in metadata.get("finalizers") or [] if each != FINALIZER])
            return None
        if FINALIZER not in (metadata.get("finalizers") or []):
            self._finalizers(resource, [*(metadata.get("finalizers") or []), FINALIZER])
        return self._make(name, resource["spec"]) if managed else {"topicName": name}

    def gone(self, name: str) -> None:
        """Do nothing: the finalizer has kept the resource until its topic was deleted."""

    def sweep(self, names: set[str]) -> None:
        """Do nothing: topics without a resource are somebody else's."""

    def _make(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        config = settings(spec)
        found = self._find(name)
        if found is None:
            new = NewTopic(name, spec.get("partitions", DEFAULT), spec.get("replicas", DEFAULT), config=config)
            self._kafka.answers(self._kafka.admin.create_topics([new], operation_timeout=self._kafka.seconds).values())
            found = self._wait_for(name)
        else:
            self._partitions(found, spec)
            self._configure(name, config)
        return {"topicName": name, **({"topicId": str(found.topic_id)} if found else {})}

    def _find(self, name: str) -> TopicDescription | None:
        asked = TopicCollection([name])
        futures = self._kafka.admin.describe_topics(asked, request_timeout=self._kafka.seconds).values()
        [found] = self._kafka.answers(futures, KafkaError.UNKNOWN_TOPIC_OR_PART)
        return found

    def _wait_for(self, name: str) -> TopicDescription | None:
        """Return a topic that was made a moment ago: brokers hear of it a little later than it is made."""
        deadline = time.monotonic() + self._kafka.seconds
        while (found := self._find(name)) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _partitions(self, found: TopicDescription, spec: dict[str, Any]) -> None:
        number, wanted = len(found.partitions), spec.get("partitions", len(found.partitions))
        replicas = {len(partition.replicas) for partition in found.partitions}
        if wanted < number:
            raise RefusedError(f"Decreasing partitions not supported: {found.name} has {number}.", "NotSupported")
        if spec.get("replicas", DEFAULT) != DEFAULT and replicas != {spec["replicas"]}:
            raise RefusedError(
                f"Replication factor change not supported: that of {found.name} is {max(replicas)}.", "NotSupported"
            )
        if wanted > number:
            self._kafka.answers(self._kafka.admin.create_partitions([NewPartitions(found.name, wanted)]).values())

    def _configure(self, name: str, wanted: dict[str, str]) -> None:
        resource = ConfigResource(ResourceType.TOPIC, name)
        [entries] = self._kafka.answers(self._kafka.admin.describe_configs([resource]).values())
        own = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
        found = {each.name: each.value for each in entries.values() if each.source == own}
        for key, value in changes(found, wanted).items():
            kind = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
            resource.add_incremental_config(ConfigEntry(key, value, incremental_operation=kind))
        if resource.incremental_configs:
            self._kafka.answers(self._kafka.admin.incremental_alter_configs([resource]).values())

    def _delete(self, name: str) -> None:
        futures = self._kafka.admin.delete_topics([name], operation_timeout=self._kafka.seconds).values()
        self._kafka.answers(futures, KafkaError.UNKNOWN_TOPIC_OR_PART)

    def _finalizers(self, resource: dict[str, Any], finalizers: list[str]) -> None:
        version = resource["metadata"]["resourceVersion"]
        try:
            self._api.patch(resource, {"metadata": {"finalizers": finalizers, "resourceVersion": version}})
        except ApiError as error:
            if error.status != 404:
                raise


def settings(spec: dict[str, Any]) -> dict[str, str]:
    """Return a topic's settings as Kafka takes them."""
    given = {name: value for name, value in (spec.get("config") or {}).items() if value is not None}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def changes(found: dict[str, str], wanted: dict[str, str]) -> dict[str, str | None]:
    """Return the settings to change, with their values; None where one goes back to the broker's default."""
    gone = dict.fromkeys(found.keys() - wanted.keys())
    return gone | {name: value for name, value in wanted.items() if found.get(name) != value}
