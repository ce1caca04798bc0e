"""The topic that every throughput figure is taken on: 200-byte JSON events in event-time order.

The events satisfy contracts/events/v1.json, so the shipped app checks and counts them as it would any others.
"""

import datetime as dt
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

EVENT_BYTES = 200
EVENT_TYPES = ("departed", "arrived", "cancelled", "diverted")
START = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
EVENTS_PER_SECOND_OF_EVENT_TIME = 5_000
PLAIN = {
    "enable.idempotence": True,
    "compression.type": "none",  # the perf tools write uncompressed records as well
    "linger.ms": 20,
    "batch.size": 262_144,
    "queue.buffering.max.messages": 500_000,
}
"""How topics are filled, in librdkafka's names."""

Record = tuple[int, bytes, bytes]
"""Partition, key and value."""


def _template(event_type: str) -> bytes:
    """Return the event as a bytes format of (number, moment, flight), padded so that every event has EVENT_BYTES."""
    start = b'{"schema_version":1,"event_id":"bench/%012d","event_type":"' + event_type.encode() + b'",'
    body = b'"event_time":"%b","carrier":"UA","flight":%d,"origin":"EWR","destination":"IAH","source":"'
    length = len((start + body) % (0, b"2013-01-01T00:00:00Z", 1000)) + len(b'"}')
    return start + body + b"b" * (EVENT_BYTES - length) + b'"}'


TEMPLATES = tuple(_template(event_type) for event_type in EVENT_TYPES)


def event(number: int, moment: bytes) -> bytes:
    """Return event `number` of the benchmark as EVENT_BYTES bytes of JSON; `moment` is its event time, RFC 3339."""
    return TEMPLATES[number % len(TEMPLATES)] % (number, moment, 1_000 + number % 9_000)


def moments(rate: int = EVENTS_PER_SECOND_OF_EVENT_TIME) -> Iterator[bytes]:
    """Yield event times (RFC 3339, UTC): `rate` events share each second of event time, from START on."""
    for second in itertools.count():
        text = (START + dt.timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        yield from itertools.repeat(text, rate)


def create_topic(bootstrap_servers: str, name: str, partitions: int, config: dict[str, str] | None = None) -> None:
    """Create topic `name`, which must not exist.

    Raises:
        KafkaException: when the broker refuses.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
    for future in admin.create_topics([topic]).values():
        future.result(30)


def delete_topic(bootstrap_servers: str, name: str) -> None:
    """Delete topic `name` if it is there, and wait until it is gone.

    Raises:
        TimeoutError: when the broker still lists it after 30 s.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    if name not in admin.list_topics(timeout=30).topics:
        return
    for future in admin.delete_topics([name]).values():
        future.result(30)
    deadline = time.monotonic() + 30
    while name in admin.list_topics(timeout=30).topics:
        if time.monotonic() > deadline:
            raise TimeoutError(f"topic {name} is still there 30 s after it was deleted")
        time.sleep(0.1)


def fill(bootstrap_servers: str, topic: str, records: int, partitions: int) -> None:
    """Write `records` events to `topic`, round robin over `partitions`, each partition in event-time order.

    Raises:
        KafkaException: when a record was not written.
    """
    send(topic, _records(records, partitions), PLAIN | {"bootstrap.servers": bootstrap_servers})


def _records(count: int, partitions: int) -> Iterator[Record]:
    for number, moment in zip(range(count), moments(), strict=False):
        value = event(number, moment)
        yield number % partitions, value[32:50], value


def send(topic: str, records: Iterable[Record], config: Mapping[str, Any]) -> None:
    """Write records to `topic` as fast as it goes, each once; `config` is the producer's, in librdkafka's names.

    Raises:
        KafkaException: when a record was not written.
    """
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(config)
    for number, (partition, key, value) in enumerate(records):
        while True:
            try:
                producer.produce(topic, value, key, partition=partition, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush()
    if failures:
        raise KafkaException(failures[0])


def write_payload_file(path: Path, records: int) -> Path:
    """Write `records` events to `path`, one a line, for Kafka's producer performance tool."""
    with path.open("wb") as file:
        for number, moment in zip(range(records), moments(), strict=False):
            file.write(event(number, moment) + b"\n")
    return path
