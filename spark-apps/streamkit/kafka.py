"""How an app reaches Kafka, and what its driver asks Kafka itself, by the client library of Spark's connector."""

from functools import cache
from typing import Any

from pyspark.sql import SparkSession

from streamkit.certificates import read_certificates
from streamkit.errors import first_line
from streamkit.settings import KafkaSecuritySettings, KafkaSinkSettings, SettingsError, SourceSettings

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
LOGIN_MODULES = {
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
}


COMPRESSION = "zstd"
"""Of what is written, as in Millrace's topics (docs/decisions/0016): a broker keeps such batches as they come."""


CONNECTING = {
    "kafka.socket.connection.setup.timeout.ms": "3000",
    "kafka.socket.connection.setup.timeout.max.ms": "5000",
}
"""How long a broker's address may be silent (Kafka's defaults: 10 s, then up to 30 s).

A pod that is gone is silent. Whoever waits for it meanwhile misses that another one has taken its place.
"""


class KafkaError(RuntimeError):
    """Kafka cannot be asked, or the topic is not there; the message is one sentence that says what to do."""


def kafka_options(endpoint: SourceSettings | KafkaSinkSettings) -> dict[str, str]:
    """Return how to reach Kafka, as options of Spark's source or sink; for a sink its topic and compression too.

    The endpoint's own options come before the defaults. Raises SettingsError as `security_properties` does.
    """
    options = {name: value for name, value in endpoint.options.items() if name.startswith("kafka.")}
    sink = {}
    if isinstance(endpoint, KafkaSinkSettings):
        sink = {"topic": endpoint.topic, "kafka.compression.type": COMPRESSION}
    security = {f"kafka.{name}": value for name, value in security_properties(endpoint.security).items()}
    return {"kafka.bootstrap.servers": endpoint.bootstrap_servers, **CONNECTING, **sink, **security, **options}


def security_properties(security: KafkaSecuritySettings) -> dict[str, str]:
    """Return the security settings in the names of Kafka's Java client.

    The certificate authority goes in as text, so that executors need no file. Raises SettingsError for an unknown
    protocol or mechanism, SASL without a user or password, and a file that can't be read.
    """
    if security.protocol not in PROTOCOLS:
        raise SettingsError(f"security.protocol is {security.protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    if security.protocol == "PLAINTEXT":
        return {}
    properties = {"security.protocol": security.protocol}
    if security.protocol.endswith("SSL") and security.ca_location:
        properties |= {
            "ssl.truststore.type": "PEM",
            "ssl.truststore.certificates": read_certificates(
                "security.ca_location", security.ca_location, "KAFKA_SSL_CA_LOCATION"
            ),
        }
    if security.protocol.startswith("SASL"):
        if security.mechanism not in LOGIN_MODULES:
            raise SettingsError(
                f"security.mechanism is {security.mechanism!r}: expected one of {', '.join(LOGIN_MODULES)}"
            )
        if not (security.username and security.password):
            raise SettingsError(
                f"security.protocol is {security.protocol}, which needs a user: set KAFKA_USERNAME and KAFKA_PASSWORD"
            )
        login = f"{LOGIN_MODULES[security.mechanism]} required"
        user, password = _quoted(security.username), _quoted(security.password)
        properties |= {
            "sasl.mechanism": security.mechanism,
            "sasl.jaas.config": f"{login} username={user} password={password};",
        }
    return properties


def _quoted(text: str) -> str:
    """Write a value as JAAS takes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def partitions_of(spark: SparkSession, source: SourceSettings) -> list[int]:
    """Return the numbers of the partitions that the topic had when it was first asked for. Raises KafkaError."""
    return list(_partitions(spark, source.topic, tuple(sorted(kafka_options(source).items()))))


def current_partitions(spark: SparkSession, source: SourceSettings) -> list[int]:
    """Ask Kafka for the numbers of the topic's partitions. Raises KafkaError."""
    return list(_ask(spark, source.topic, tuple(sorted(kafka_options(source).items()))))


@cache
def _partitions(spark: SparkSession, topic: str, options: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    return _ask(spark, topic, options)


def _ask(spark: SparkSession, topic: str, options: tuple[tuple[str, str], ...]) -> tuple[int, ...]:
    jvm: Any = spark.sparkContext._jvm
    servers = dict(options)["kafka.bootstrap.servers"]
    properties = jvm.java.util.Properties()
    properties.put("default.api.timeout.ms", "20000")
    properties.put("request.timeout.ms", "10000")
    for name, value in options:
        properties.put(name.removeprefix("kafka."), value)
    try:
        admin = jvm.org.apache.kafka.clients.admin.Admin.create(properties)
    except Exception as error:
        reason = first_line(error)
        raise KafkaError(f"no Kafka client for {servers}: {reason}: check security and options") from error
    try:
        names = jvm.java.util.List.of(topic)
        described = admin.describeTopics(names).allTopicNames().get().get(topic)
        return tuple(sorted(info.partition() for info in described.partitions()))
    except Exception as error:
        raise _unanswered(topic, servers, error) from error
    finally:
        admin.close()


def _unanswered(topic: str, servers: str, error: Exception) -> KafkaError:
    """Say why Kafka did not tell a topic's partitions."""
    reason = first_line(error)
    for name, sentence in {
        "UnknownTopicOrPartition": f"topic {topic} does not exist at {servers}: create it first",
        "SaslAuthentication": (
            f"Kafka at {servers} refuses the user ({reason}): correct KAFKA_USERNAME and KAFKA_PASSWORD"
        ),
        "TopicAuthorization": (
            f"topic {topic} at {servers} does not exist or may not be read: create it, or give the user the right"
        ),
        "SslAuthentication": (
            f"Kafka at {servers} has no certificate that is trusted ({reason}): correct KAFKA_SSL_CA_LOCATION"
        ),
    }.items():
        if name in str(error):
            return KafkaError(sentence)
    return KafkaError(f"Kafka at {servers} does not answer ({reason}): is it running?")
