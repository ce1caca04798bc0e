"""Latency from produce to the broker's append of the output record, per event.

The load is produced at a fixed rate with the client's produce time as the record's timestamp. Output topics carry
`message.timestamp.type=LogAppendTime`, so both times come from this machine's clock, to the millisecond.
"""

import datetime as dt
import json
import math
import time
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from benchmarks.events import EVENT_TYPES, event

SLIDE_MS = 60_000


@dataclass(frozen=True)
class Latency:
    """Milliseconds from produce to append, over `events` events."""

    p50: float
    p99: float
    max: float
    events: int


@dataclass(frozen=True)
class Sent:
    """One event of the load: when it was produced (ms since 1970; also its event time) and its number."""

    produced: int
    number: int


def produce_load(bootstrap_servers: str, topic: str, partitions: int, rate: int, seconds: float) -> list[Sent]:
    """Produce `rate` events a second to `topic` for `seconds`, round robin; return what was sent, in order.

    Raises:
        KafkaException: when a record was not written.
    """
    failures = []
    producer = Producer(
        {"bootstrap.servers": bootstrap_servers, "acks": "all", "enable.idempotence": True, "linger.ms": 1}
    )

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            failures.append(error)

    sent: list[Sent] = []
    start = time.perf_counter()
    total = int(rate * seconds)
    while len(sent) < total:
        due = min(total, int((time.perf_counter() - start) * rate))
        while len(sent) < due:
            number = len(sent)
            now = time.time_ns() // 1_000_000
            moment = dt.datetime.fromtimestamp(now / 1000, dt.UTC).isoformat(timespec="milliseconds")
            value = event(number, moment.replace("+00:00", "Z").encode())
            key = value[32:50]
            producer.produce(topic, value, key, partition=number % partitions, timestamp=now, on_delivery=delivered)
            sent.append(Sent(now, number))
        producer.poll(0)
        time.sleep(0.001)
    producer.flush()
    if failures:
        raise KafkaException(failures[0])
    return sent


def read_all(bootstrap_servers: str, topic: str) -> list[tuple[int, bytes, bytes]]:
    """Return every record of `topic` as (timestamp ms, key, value), in order of timestamp."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "benchmark-reader", "enable.auto.commit": False}
    )
    try:
        partitions = [
            TopicPartition(topic, number, 0)
            for number in consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ]
        remaining = 0
        for partition in partitions:
            low, high = consumer.get_watermark_offsets(partition, timeout=30)
            remaining += high - low
        consumer.assign(partitions)
        records = []
        while remaining > 0:
            for message in consumer.consume(10_000, timeout=30):
                if message.error():
                    raise KafkaException(message.error())
                remaining -= 1
                records.append((message.timestamp()[1], message.key(), message.value()))
    finally:
        consumer.close()
    records.sort(key=lambda record: record[0])
    return records


def of_filter(sent: list[Sent], output: list[tuple[int, bytes, bytes]]) -> list[tuple[int, int]]:
    """Return (produced, latency), in ms, of each event that the filter kept, matched by its key."""
    produced = {b"bench/%012d" % item.number: item.produced for item in sent}
    first_append: dict[bytes, int] = {}
    for appended, key, _value in output:
        first_append.setdefault(key, appended)
    return [(produced[key], appended - produced[key]) for key, appended in first_append.items()]


def of_windows(sent: list[Sent], output: list[tuple[int, bytes, bytes]]) -> list[tuple[int, int]]:
    """Return (produced, latency), in ms, of each event until an update of its newest window counts it.

    An update with the count N of a window and type has counted at least as far as the N-th such event produced. It
    counts exactly those if the batch holds a prefix of what was produced; if it holds later events instead of
    earlier ones, this overstates the latency, never understates it.
    """
    by_type: dict[str, list[int]] = defaultdict(list)
    for item in sent:
        by_type[EVENT_TYPES[item.number % len(EVENT_TYPES)]].append(item.produced)
    counted: dict[tuple[int, str], int] = defaultdict(int)
    latencies = []
    for appended, _key, value in output:
        row = json.loads(value)
        start = int(dt.datetime.fromisoformat(row["window_start"].replace("Z", "+00:00")).timestamp() * 1000)
        times = by_type[row["event_type"]]
        first = bisect_left(times, start)
        window = (start, row["event_type"])
        for produced in times[first + counted[window] : first + row["events"]]:
            if produced < start + SLIDE_MS:
                latencies.append((produced, appended - produced))
        counted[window] = max(counted[window], row["events"])
    return latencies


def segments(latencies: list[tuple[int, int]], begin: int, seconds: float, count: int) -> list[Latency]:
    """Return the percentiles of `count` consecutive runs of `seconds` each, by produce time, from `begin` (ms) on."""
    length = seconds * 1000
    runs: list[list[int]] = [[] for _ in range(count)]
    for produced, latency in latencies:
        run = int((produced - begin) // length)
        if 0 <= run < count:
            runs[run].append(latency)
    return [summary(run) for run in runs]


def summary(latencies: list[int]) -> Latency:
    """Return the nearest-rank percentiles of `latencies` (ms; not empty)."""
    if not latencies:
        raise RuntimeError("no output record could be matched with an event that was sent")
    ordered = sorted(latencies)

    def rank(share: float) -> float:
        return float(ordered[max(0, math.ceil(share * len(ordered)) - 1)])

    return Latency(rank(0.5), rank(0.99), float(ordered[-1]), len(ordered))
