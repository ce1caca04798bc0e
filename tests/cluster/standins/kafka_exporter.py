"""The stand-in for kafka_exporter: its metrics, by its names and labels, from what the brokers say at each scrape."""

import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import ClusterMetadata, OffsetSpec
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric

from tests.cluster.standins.strimzi.clusters import RefusedError
from tests.cluster.standins.strimzi.health import serve
from tests.cluster.standins.strimzi.kafka import Kafka, UnansweredError
from tests.cluster.standins.strimzi.names import METRICS

Partition = tuple[str, int]
# Prometheus waits for 10 s in all; where one answer takes this long, the others don't come either.
SECONDS = 4.0
_LOG = logging.getLogger(__name__)
_HELP = {
    "kafka_brokers": "Number of Brokers in the Kafka Cluster",
    "kafka_topic_partitions": "Number of partitions for this Topic",
    "kafka_topic_partition_current_offset": "Current Offset of a Broker at Topic/Partition",
    "kafka_topic_partition_oldest_offset": "Oldest Offset of a Broker at Topic/Partition",
    "kafka_topic_partition_leader": "Leader Broker ID of this Topic/Partition",
    "kafka_topic_partition_leader_is_preferred": "1 if Topic/Partition is using the Preferred Broker",
    "kafka_topic_partition_replicas": "Number of Replicas for this Topic/Partition",
    "kafka_topic_partition_in_sync_replica": "Number of In-Sync Replicas for this Topic/Partition",
    "kafka_topic_partition_under_replicated_partition": "1 if Topic/Partition is under Replicated",
    "kafka_consumergroup_members": "Amount of members in a consumer group",
    "kafka_consumergroup_current_offset": "Current Offset of a ConsumerGroup at Topic/Partition",
    "kafka_consumergroup_current_offset_sum": "Current Offset of a ConsumerGroup at Topic for all partitions",
    "kafka_consumergroup_lag": "Current Approximate Lag of a ConsumerGroup at Topic/Partition",
    "kafka_consumergroup_lag_sum": "Current Approximate Lag of a ConsumerGroup at Topic for all partitions",
}


class Exporter:
    """A collector of prometheus_client."""

    def __init__(self, kafka: Kafka, topics: str = ".*", groups: str = ".*") -> None:
        """Prepare; `topics` and `groups` are expressions of those that are shown."""
        self._kafka = kafka
        self._topics, self._groups = re.compile(topics), re.compile(groups)
        self._one_at_a_time = threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Say nothing of what will come: the registry would otherwise scrape at its start."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask the brokers. Where they don't answer there is nothing to show, as of kafka_exporter."""
        with self._one_at_a_time:
            families = _Families()
            try:
                metadata = self._metadata()
                families.add("kafka_brokers", {}, len(metadata.brokers))
                latest = self._of_topics(metadata, families)
                self._of_groups(families, latest)
            except (RefusedError, UnansweredError) as error:
                _LOG.warning("Some figures are missing: %s", error)
        yield from families.all.values()

    def _metadata(self) -> ClusterMetadata:
        try:
            return self._kafka.admin.list_topics(timeout=self._kafka.seconds)
        except KafkaException as error:
            raise self._kafka.unanswered(error.args[0].str()) from None

    def _of_topics(self, metadata: ClusterMetadata, families: "_Families") -> dict[Partition, int]:
        shown = [each for each in metadata.topics.values() if self._topics.search(each.topic)]
        for topic in shown:
            families.add("kafka_topic_partitions", {"topic": topic.topic}, len(topic.partitions))
            for number, partition in topic.partitions.items():
                labels = {"topic": topic.topic, "partition": str(number)}
                replicas, in_sync = len(partition.replicas), len(partition.isrs)
                preferred = partition.replicas[:1] == [partition.leader]
                families.add("kafka_topic_partition_leader", labels, partition.leader)
                families.add("kafka_topic_partition_leader_is_preferred", labels, preferred)
                families.add("kafka_topic_partition_replicas", labels, replicas)
                families.add("kafka_topic_partition_in_sync_replica", labels, in_sync)
                families.add("kafka_topic_partition_under_replicated_partition", labels, in_sync < replicas)
        # A partition without a leader can't say its offsets, and would keep those of the others from being said.
        partitions = [
            (topic.topic, number)
            for topic in shown
            for number, partition in topic.partitions.items()
            if partition.leader >= 0
        ]
        latest = self._offsets(partitions, OffsetSpec.latest())
        for name, offsets in {
            "kafka_topic_partition_current_offset": latest,
            "kafka_topic_partition_oldest_offset": self._offsets(partitions, OffsetSpec.earliest()),
        }.items():
            for (topic_name, number), offset in offsets.items():
                families.add(name, {"topic": topic_name, "partition": str(number)}, offset)
        return latest

    def _offsets(self, partitions: list[Partition], which: OffsetSpec) -> dict[Partition, int]:
        asked = {TopicPartition(*each): which for each in partitions}
        if not asked:
            return {}
        found = self._kafka.admin.list_offsets(asked, request_timeout=self._kafka.seconds)
        answers = zip(found, self._kafka.answers(found.values()), strict=True)
        return {(each.topic, each.partition): answer.offset for each, answer in answers}

    def _of_groups(self, families: "_Families", latest: dict[Partition, int]) -> None:
        seconds = self._kafka.seconds
        [listed] = self._kafka.answers([self._kafka.admin.list_consumer_groups(request_timeout=seconds)])
        if listed.errors:
            raise self._kafka.unanswered(listed.errors[0])
        groups = [each.group_id for each in listed.valid if self._groups.search(each.group_id)]
        if not groups:
            return
        futures = self._kafka.admin.describe_consumer_groups(groups, request_timeout=seconds).values()
        for described in self._kafka.answers(futures):
            families.add("kafka_consumergroup_members", {"consumergroup": described.group_id}, len(described.members))
        for group in groups:
            self._of_group(families, group, latest)

    def _of_group(self, families: "_Families", group: str, latest: dict[Partition, int]) -> None:
        asked = [ConsumerGroupTopicPartitions(group)]
        seconds = self._kafka.seconds
        futures = self._kafka.admin.list_consumer_group_offsets(asked, request_timeout=seconds).values()
        [found] = self._kafka.answers(futures)
        sums: dict[str, tuple[int, int]] = {}
        for each in found.topic_partitions:
            if (each.topic, each.partition) not in latest:
                continue
            lag = max(0, latest[each.topic, each.partition] - each.offset) if each.offset >= 0 else -1
            labels = {"consumergroup": group, "topic": each.topic, "partition": str(each.partition)}
            families.add("kafka_consumergroup_current_offset", labels, each.offset)
            families.add("kafka_consumergroup_lag", labels, lag)
            offsets, lags = sums.get(each.topic, (0, 0))
            sums[each.topic] = (offsets + max(0, each.offset), lags + max(0, lag))
        for topic, (offsets, lags) in sums.items():
            labels = {"consumergroup": group, "topic": topic}
            families.add("kafka_consumergroup_current_offset_sum", labels, offsets)
            families.add("kafka_consumergroup_lag_sum", labels, lags)


class _Families:
    """Metrics by their names."""

    def __init__(self) -> None:
        self.all: dict[str, GaugeMetricFamily] = {}

    def add(self, name: str, labels: dict[str, str], value: float) -> None:
        if name not in self.all:
            self.all[name] = GaugeMetricFamily(name, _HELP[name], labels=list(labels))
        self.all[name].add_metric(list(labels.values()), float(value))


def main() -> None:
    """Run in a pod, as the cluster operator's environment says."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    registry = CollectorRegistry()
    environment = os.environ
    topics, groups = (environment[f"KAFKA_EXPORTER_{what}_REGEX"] for what in ("TOPIC", "GROUP"))
    registry.register(Exporter(Kafka(environment, SECONDS), topics, groups))
    serve(METRICS, registry, lambda: True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
