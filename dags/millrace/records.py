"""Records of a topic: send them, read them."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from millrace import kafka
from millrace.errors import MillraceError

CONSUME_BATCH = 10_000
CONSUME_TIMEOUT = 30.0
"""Seconds without any record until reading a topic counts as failed."""


Header = tuple[str, bytes]


def send(
    config: Mapping[str, Any],
    topic: str,
    key: str,
    value: bytes,
    *,
    partition: int = -1,
    timeout: float = kafka.REQUEST_TIMEOUT,
) -> None:
    """Send one record and wait for its acknowledgement; partition -1 means the one that the key gives.

    Raises MillraceError if there is no acknowledgement in `timeout` seconds.
    """
    send_all(config, topic, [(key, value, [])], partition=partition, timeout=timeout)


def send_all(
    config: Mapping[str, Any],
    topic: str,
    messages: Iterable[tuple[str, bytes, list[Header]]],
    *,
    partition: int = -1,
    timeout: float = kafka.REQUEST_TIMEOUT,
) -> int:
    """Send records (key, value, headers), wait until all are acknowledged, and return how many they were.

    Raises MillraceError if one isn't acknowledged in `timeout` seconds; others may be there then.
    """
    from confluent_kafka import Producer

    failures: list[str] = []
    producer = Producer({**config, "message.timeout.ms": int(timeout * 1000), "enable.idempotence": True})

    def delivered(error: Any, _: Any) -> None:
        if error:
            failures.append(error.str())

    sent = 0
    for key, value, headers in messages:
        while True:
            try:
                producer.produce(topic, value, key, partition, on_delivery=delivered, headers=headers)
                break
            except BufferError:  # The producer's queue is full: let it send.
                producer.poll(0.1)
        sent += 1
    if producer.flush(timeout + 1) or failures:
        reason = failures[0] if failures else "timed out"
        raise MillraceError(f"Topic {topic} did not take a record ({reason}): check the broker and the topic.")
    return sent


def read_topic(
    config: Mapping[str, Any], topic: str, ranges: Mapping[int, tuple[int, int]] | None = None
) -> Iterator[Any]:
    """Yield each record that a topic holds now; with `ranges` those of a partition from an offset to before another.

    Raises MillraceError if the broker stops answering before the end.
    """
    from confluent_kafka import Consumer, TopicPartition

    ranges = kafka.offset_ranges(config, topic) if ranges is None else ranges
    left = {partition: end for partition, (first, end) in ranges.items() if end > first}
    settings = {**config, "group.id": "millrace-verification", "enable.auto.commit": False}
    consumer = Consumer({**settings, "enable.partition.eof": False, "auto.offset.reset": "earliest"})
    try:
        consumer.assign([TopicPartition(topic, partition, ranges[partition][0]) for partition in left])
        deadline = time.monotonic() + CONSUME_TIMEOUT
        while left:
            records = consumer.consume(CONSUME_BATCH, 0.5)
            if records:
                deadline = time.monotonic() + CONSUME_TIMEOUT
            elif time.monotonic() >= deadline:
                raise MillraceError(f"Topic {topic} gave no record for {CONSUME_TIMEOUT:g} s: check the broker.")
            yield from _checked(records, topic, left)
    finally:
        consumer.close()


def _checked(records: list[Any], topic: str, left: dict[int, int]) -> Iterator[Any]:
    for record in records:
        if record.error():
            raise MillraceError(f"Cannot read topic {topic}: {record.error().str()}; check the broker.")
        end = left.get(record.partition())
        if end is not None and record.offset() < end:
            yield record
        if end is not None and record.offset() >= end - 1:
            del left[record.partition()]
