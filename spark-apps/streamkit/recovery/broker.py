"""Which offsets a topic still has, asked of the broker."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamkit.recovery import RecoveryError
from streamkit.recovery.layout import Positions
from streamkit.settings import KafkaSecuritySettings, SourceSettings

ANSWER_SECONDS = 15.0

Bounds = dict[str, dict[int, tuple[int, int]]]
"""Topic to partition to the first offset that is there and the end; a topic that does not exist is missing."""


@dataclass(frozen=True)
class Broker:
    """How to reach Kafka."""

    servers: str
    security: KafkaSecuritySettings = field(default_factory=lambda: KafkaSecuritySettings(protocol="PLAINTEXT"))

    @classmethod
    def of(cls, source: SourceSettings) -> "Broker":
        """Return the broker that an app reads from."""
        return cls(source.bootstrap_servers, source.security)

    def config(self) -> dict[str, str]:
        """Return the settings of a client, in librdkafka's names."""
        security = self.security
        config = {"bootstrap.servers": self.servers, "security.protocol": security.protocol}
        if security.protocol.endswith("SSL") and security.ca_location:
            config["ssl.ca.location"] = security.ca_location
        if security.protocol.startswith("SASL"):
            config |= {
                "sasl.mechanism": security.mechanism,
                "sasl.username": security.username,
                "sasl.password": security.password,
            }
        return config

    def bounds(self, topics: Iterable[str]) -> Bounds:
        """Return what each topic holds. Raises RecoveryError if the broker does not say."""
        try:
            admin = AdminClient({**self.config(), "log_level": 0})
            known = admin.list_topics(timeout=ANSWER_SECONDS).topics
            partitions = [TopicPartition(name, p) for name in topics if name in known for p in known[name].partitions]
            ends = []
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):
                asked = admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=ANSWER_SECONDS)
                ends.append({key: future.result().offset for key, future in asked.items()} if partitions else {})
        except KafkaException as error:
            raise RecoveryError(
                f"Kafka at {self.servers} does not say what its topics hold ({error.args[0].str()}): is it running, "
                "and may this user read them?"
            ) from error
        found: Bounds = {}
        for key in partitions:
            found.setdefault(key.topic, {})[key.partition] = ends[0][key], ends[1][key]
        return found


def misplaced(positions: Positions, bounds: Bounds) -> list[str]:
    """Return a sentence for each position that its topic does not have (any more)."""
    found = []
    for topic, partitions in positions.items():
        if topic not in bounds:
            found.append(f"topic {topic} does not exist: it was deleted, or this is another broker")
            continue
        for partition, offset in sorted(partitions.items()):
            if partition not in bounds[topic]:
                found.append(f"{topic}/{partition} does not exist: the topic was made anew with fewer partitions")
                continue
            first, end = bounds[topic][partition]
            if offset < first:
                found.append(
                    f"{topic}/{partition} begins at offset {first}, and the query goes on at {offset}: "
                    f"{first - offset} records that it has not read are beyond the topic's retention"
                )
            elif offset > end:
                found.append(
                    f"{topic}/{partition} ends at offset {end}, and the query goes on at {offset}: the topic was made "
                    "anew, or this is another broker"
                )
    return found
