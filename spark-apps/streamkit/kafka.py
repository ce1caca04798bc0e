"""What a driver asks Kafka itself, by the client library that Spark's connector brings along."""

from functools import cache
from typing import Any

from pyspark.sql import SparkSession

from streamkit.errors import first_line
from streamkit.settings import KafkaSinkSettings, SourceSettings


class KafkaError(RuntimeError):
    """Kafka cannot be asked, or the topic is not there; the message is one sentence that says what to do."""


def kafka_options(endpoint: SourceSettings | KafkaSinkSettings) -> dict[str, str]:
    """Return how to reach Kafka, as options of Spark's source or sink; for a sink its topic too."""
    options = {name: value for name, value in endpoint.options.items() if name.startswith("kafka.")}
    topic = {"topic": endpoint.topic} if isinstance(endpoint, KafkaSinkSettings) else {}
    return {"kafka.bootstrap.servers": endpoint.bootstrap_servers, **topic, **options}


def partitions_of(spark: SparkSession, source: SourceSettings) -> list[int]:
    """Return the numbers of the topic's partitions. Raises KafkaError."""
    options = tuple(sorted((k, v) for k, v in source.options.items() if k.startswith("kafka.")))
    return list(_partitions(spark, source.topic, source.bootstrap_servers, options))


@cache
def _partitions(spark: SparkSession, topic: str, servers: str, options: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    jvm: Any = spark.sparkContext._jvm
    properties = jvm.java.util.Properties()
    properties.put("bootstrap.servers", servers)
    properties.put("default.api.timeout.ms", "20000")
    properties.put("request.timeout.ms", "10000")
    for name, value in options:
        properties.put(name.removeprefix("kafka."), value)
    try:
        admin = jvm.org.apache.kafka.clients.admin.Admin.create(properties)
    except Exception as error:
        raise KafkaError(f"no Kafka client for {servers}: {first_line(error)}: check source.options") from error
    try:
        names = jvm.java.util.List.of(topic)
        described = admin.describeTopics(names).allTopicNames().get().get(topic)
        return tuple(sorted(info.partition() for info in described.partitions()))
    except Exception as error:
        if "UnknownTopicOrPartition" in str(error):
            raise KafkaError(f"topic {topic} does not exist at {servers}: create it first") from error
        raise KafkaError(f"Kafka at {servers} does not answer ({first_line(error)}): is it running?") from error
    finally:
        admin.close()
