"""Talking to Kafka: settings of the producer, partitions of keys, and what a topic holds."""

import contextlib
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import (
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from ingest.errors import BadInputError, IngestError

LOG = logging.getLogger("ingest.kafka")
ANSWER_SECONDS = 15.0
RETRY_SECONDS = 0.1
NEW_TOPIC_SECONDS = 2.0
# What a broker answers for a moment about a topic that has just been made, or that has just changed its leader.
_NOT_READY = frozenset(
    {
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    }
)


PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")


def security_config(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return, in librdkafka's names, how to prove to Kafka who this is, from a pod's environment.

    Raises BadInputError for an unknown KAFKA_SECURITY_PROTOCOL, SASL without KAFKA_USERNAME or KAFKA_PASSWORD, and a
    KAFKA_SSL_CA_LOCATION that can't be read.
    """
    protocol = environ.get("KAFKA_SECURITY_PROTOCOL") or "PLAINTEXT"
    if protocol not in PROTOCOLS:
        raise BadInputError(f"KAFKA_SECURITY_PROTOCOL is {protocol!r}: set it to one of {', '.join(PROTOCOLS)}.")
    if protocol == "PLAINTEXT":
        return {}
    config = {"security.protocol": protocol}
    authority = environ.get("KAFKA_SSL_CA_LOCATION")
    if protocol.endswith("SSL") and authority:
        if not os.access(authority, os.R_OK):
            reason = "may not be read" if Path(authority).exists() else "doesn't exist"
            raise BadInputError(
                f"KAFKA_SSL_CA_LOCATION names {authority}, which {reason}: mount the certificate there."
            )
        config["ssl.ca.location"] = authority
    if protocol.startswith("SASL"):
        user, password = environ.get("KAFKA_USERNAME"), environ.get("KAFKA_PASSWORD")
        if not (user and password):
            raise BadInputError(f"{protocol} needs a user: set KAFKA_USERNAME and KAFKA_PASSWORD.")
        mechanism = environ.get("KAFKA_SASL_MECHANISM") or "SCRAM-SHA-512"
        config |= {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": password}
    return config


@dataclass(frozen=True)
class ClientSettings:
    """Which brokers, who asks, and how errors name where that was set."""

    bootstrap_servers: str
    security: Mapping[str, str] = field(default_factory=dict, repr=False)  # what `security_config` returns
    connect_timeout_seconds: int = 15
    address_from: str = "--bootstrap-servers"
    user_from: str = "KAFKA_USERNAME and KAFKA_PASSWORD"
    topic_from: str = "create it as contracts/topics.yaml describes it"

    def connection_config(self) -> dict[str, Any]:
        """Return what every client needs, in librdkafka's names."""
        # log_level 3 is errors; below that the client warns of each reconnection attempt.
        return {"bootstrap.servers": self.bootstrap_servers, **self.security, "log_level": 3}

    def refused(self, error: KafkaError) -> BadInputError:
        """Return what to tell a user whom the broker refuses."""
        return BadInputError(
            f"Kafka at {self.bootstrap_servers} refuses the user ({error.str()}): correct {self.user_from}."
        )


@dataclass(frozen=True)
class ProducerSettings(ClientSettings):
    """How a feed sends. The defaults are explained in `ingest/README.md`."""

    linger_ms: int = 20
    batch_bytes: int = 512 * 1024
    queue_messages: int = 200_000
    queue_kbytes: int = 128 * 1024
    delivery_timeout_seconds: int = 600  # how long nothing may be acknowledged before it is a failure

    def __post_init__(self) -> None:
        if not 0 <= self.linger_ms <= 60_000:
            raise BadInputError(f"--linger-ms must be from 0 to 60000, not {self.linger_ms}.")
        for name in ("connect_timeout_seconds", "delivery_timeout_seconds"):
            if getattr(self, name) < 1:
                option = "--" + name.removesuffix("_seconds").replace("_", "-")
                raise BadInputError(f"{option} must be at least 1 second, not {getattr(self, name)}.")

    def producer_config(self) -> dict[str, Any]:
        """Return the settings in librdkafka's names."""
        return {
            **self.connection_config(),
            "client.id": "millrace-ingest",
            "acks": "all",
            "enable.idempotence": True,
            # A batch that is refused for good while later ones get through would leave a gap that a resumed
            # replay can't see. This makes it fatal, but doesn't cover a message that times out: so none does,
            # and the sender itself watches how long the broker has been away.
            "enable.gapless.guarantee": True,
            "message.timeout.ms": 0,
            "compression.type": "zstd",
            "linger.ms": self.linger_ms,
            "batch.size": self.batch_bytes,
            "batch.num.messages": 10_000,
            "queue.buffering.max.messages": self.queue_messages,
            "queue.buffering.max.kbytes": self.queue_kbytes,
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1000,
            # A report for each delivered message would cost more than sending it.
            "delivery.report.only.error": True,
        }


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a non-empty key, as librdkafka's default (consistent_random) does."""
    return zlib.crc32(key) % partitions


def partition_count(settings: ClientSettings, topic: str) -> int:
    """Return a topic's number of partitions.

    Raises IngestError if no broker answers, BadInputError if there is no such topic. The topic is looked up
    in the list of all topics, because asking for it by name would create it on a broker that creates topics
    by itself; it is looked up for 2 s, because a broker may not yet know a topic that has just been made.
    """
    servers, seconds = settings.bootstrap_servers, settings.connect_timeout_seconds
    problems: list[KafkaError] = []
    # A refused user is told to the callback only; the call itself waits and then says that nobody answered.
    admin = AdminClient(settings.connection_config() | {"error_cb": problems.append}, logger=LOG)
    deadline = time.monotonic() + NEW_TOPIC_SECONDS
    while True:
        try:
            found = admin.list_topics(timeout=seconds).topics.get(topic)
        except KafkaException as error:
            admin.poll(0)
            refused = next((each for each in problems if each.code() == KafkaError._AUTHENTICATION), None)
            if refused:
                raise settings.refused(refused) from error
            # A certificate that isn't trusted is told so too.
            cause = next((each for each in problems if each.code() == KafkaError._SSL), error.args[0])
            raise IngestError(
                f"no Kafka broker answered at {servers} within {seconds} s "
                f"({cause.str()}): check that it runs, and {settings.address_from}."
            ) from error
        if found is not None and found.partitions:
            return len(found.partitions)
        if time.monotonic() > deadline:
            raise BadInputError(f"the topic {topic} doesn't exist at {servers}: {settings.topic_from}.")
        time.sleep(RETRY_SECONDS)


def topic_id(settings: ClientSettings, topic: str) -> str:
    """Return the id of a topic: another one after it was deleted and made anew. Raises IngestError."""
    admin = AdminClient(settings.connection_config(), logger=LOG)
    try:
        found = admin.describe_topics(TopicCollection([topic]), request_timeout=settings.connect_timeout_seconds)
        return str(found[topic].result(settings.connect_timeout_seconds + 1).topic_id)
    except KafkaException as error:
        raise IngestError(f"Kafka didn't describe the topic {topic} ({error.args[0].str()}): try again.") from error


@contextlib.contextmanager
def lookup(settings: ProducerSettings) -> Iterator[Consumer]:
    """Give a consumer for looking into topics; it joins no group, commits nothing, and is closed after."""
    consumer = Consumer(
        {
            **settings.connection_config(),
            "group.id": "millrace-ingest-lookup",  # required, though no group is joined
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
        },
        logger=LOG,
    )
    try:
        yield consumer
    finally:
        consumer.close()


def end_offsets(consumer: Consumer, topic: str, partitions: int) -> dict[int, int]:
    """Return the end offset of each partition; raises IngestError if the broker doesn't say."""
    return {p: _bounds(consumer, topic, p)[1] for p in range(partitions)}


def offset_ranges(consumer: Consumer, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
    """Return the first and the end offset of each partition; raises IngestError if the broker doesn't say."""
    return {p: _bounds(consumer, topic, p) for p in range(partitions)}


def last_records(
    consumer: Consumer,
    topic: str,
    partition: int,
    wanted: Callable[[Message], bool],
    chunk: int = 100,
    limit: int | None = None,
) -> list[Message]:
    """Return wanted records from the end of a partition, oldest first; empty only if it holds none.

    The partition is read backwards in growing chunks until one of them holds a wanted record; all that this
    chunk holds are returned. With a limit only so many of the newest offsets are searched. Raises IngestError if the
    broker stops answering.
    """
    low, end = _bounds(consumer, topic, partition)
    low = low if limit is None else max(low, end - limit)
    while end > low:
        start = max(low, end - chunk)
        found = [m for m in _read(consumer, topic, partition, start, end) if wanted(m)]
        if found:
            return found
        end, chunk = start, chunk * 4
    return []


def _bounds(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    deadline = time.monotonic() + ANSWER_SECONDS
    reason = f"no answer within {ANSWER_SECONDS:.0f} s"
    while time.monotonic() < deadline:
        try:
            bounds = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_SECONDS)
        except KafkaException as error:
            reason = error.args[0].str()
            if error.args[0].code() not in _NOT_READY:
                break
            time.sleep(RETRY_SECONDS)
            continue
        if bounds is not None and OFFSET_INVALID not in bounds:
            return bounds
    raise IngestError(f"Kafka didn't say where {topic}/{partition} ends ({reason}): try again.")


def _read(consumer: Consumer, topic: str, partition: int, start: int, end: int) -> list[Message]:
    consumer.assign([TopicPartition(topic, partition, start)])
    records: list[Message] = []
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        for message in consumer.consume(num_messages=min(end - start, 1000), timeout=0.5):
            error = message.error()
            if error is None:
                if message.offset() < end:
                    records.append(message)
                if message.offset() >= end - 1:
                    return records
                deadline = time.monotonic() + ANSWER_SECONDS
            elif error.code() == KafkaError._PARTITION_EOF:
                return records
            elif not error.retriable():
                raise IngestError(f"{topic}/{partition} can't be read from offset {start} ({error.str()}): try again.")
    raise IngestError(
        f"{topic}/{partition} can't be read from offset {start}: the broker stopped answering; try again."
    )
