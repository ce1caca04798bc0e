"""What a feed's compression and batching cost and save, with its own producer settings and messages."""

import datetime as dt
import itertools
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import psutil

from benchmarks import events
from benchmarks.applications import encoded
from benchmarks.rig import PARTITIONS, Rig
from benchmarks.streams import Say
from benchmarks.table import Row
from ingest import contracts
from ingest.flights import DateRange, load_events
from ingest.kafka import ProducerSettings
from ingest.simulate import SimulationSettings, market

CODECS = ("none", "lz4", "zstd", "snappy", "gzip")
BATCHES = ((20, 16), (20, 64), (20, 512), (0, 512), (5, 512), (100, 512))
"""Milliseconds that a batch waits to fill, and the KiB that it holds at most."""
MOST = 500_000
"""Messages of one run; all of them are kept in memory, so that making them is in no figure."""

Cost = dict[str, float]
"""Of one run, by unit: the rate; for each message, bytes on the broker's disk, and CPU time of client and broker."""


def compression(rig: Rig, records: int, rounds: int, say: Say) -> list[Row]:
    """Measure each codec on two feeds' messages, then sizes of batches and waits with the feeds' own codec."""
    count = min(records, MOST)
    settings = ProducerSettings(rig.bootstrap_servers)
    rows = []
    for topic, messages in (("events", _flights()), ("market-data", market(SimulationSettings(count=count)))):
        batch = list(encoded(topic, itertools.islice(messages, count)))
        section = f"Compression of {topic}: {len(batch):,} messages of {mean_bytes(batch):.0f} bytes"
        codecs = {codec: settings.producer_config() | {"compression.type": codec} for codec in CODECS}
        rows += _compare(rig, section, batch, codecs, rounds, say)
    codec = settings.producer_config()["compression.type"]
    batches = {
        f"batches of at most {kibibytes} KiB, linger {linger} ms": replace(
            settings, linger_ms=linger, batch_bytes=kibibytes * 1024
        ).producer_config()
        for linger, kibibytes in BATCHES
    }
    return rows + _compare(rig, f"Batches of {topic}: the same messages, {codec}", batch, batches, rounds, say)


def mean_bytes(batch: list[events.Record]) -> float:
    """Return the mean size of the records' values."""
    return sum(len(value) for _, _, value in batch) / len(batch)


def _flights() -> Iterable[contracts.Message]:
    """Return what the replay sends: recorded flights, from the beginning of the year on."""
    return (event.message() for event in load_events(DateRange(dt.date(2013, 1, 1), 365)))


def _compare(
    rig: Rig,
    section: str,
    batch: list[events.Record],
    variants: Mapping[str, Mapping[str, Any]],
    rounds: int,
    say: Say,
) -> list[Row]:
    """Return rows of each variant; each round runs all of them once."""
    say(section)
    measured: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, config in variants.items():
            cost = measure(rig, batch, config)
            say(f"  {name}: " + ", ".join(f"{value:,.1f} {unit}" for unit, value in cost.items()))
            for unit, value in cost.items():
                measured.setdefault((name, unit), []).append(value)
    return [Row(section, name, unit, runs) for (name, unit), runs in measured.items()]


def measure(rig: Rig, batch: list[events.Record], config: Mapping[str, Any]) -> Cost:
    """Write `batch` to a new topic by a producer of `config`, and return what that cost."""
    # A name of its own: the broker keeps the files of a deleted topic for a minute, in folders that begin alike.
    topic = f"benchmark-{uuid.uuid4().hex}"
    events.create_topic(rig.bootstrap_servers, topic, PARTITIONS)
    try:
        cpu, started = _cpu_seconds(rig), time.perf_counter()
        events.send(topic, batch, config)
        written = time.perf_counter() - started
        used = _cpu_seconds(rig) - cpu
        size = sum(file.stat().st_size for file in rig.home.glob(f"kafka/**/{topic}-*/*.log"))
    finally:
        events.delete_topic(rig.bootstrap_servers, topic)
    return {
        "rows/s written": len(batch) / written,
        "bytes stored": size / len(batch),
        "µs of CPU": used / len(batch) * 1e6,
    }


def _cpu_seconds(rig: Rig) -> float:
    """Return the CPU time of this process and of the broker so far."""
    assert rig.broker.process is not None  # noqa: S101
    return sum(
        times.user + times.system
        for times in (psutil.Process().cpu_times(), psutil.Process(rig.broker.process.pid).cpu_times())
    )
