"""How the rate of a stream grows with its task slots and with its topic's partitions."""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks import events
from benchmarks.rig import FILTER, Rig
from benchmarks.streams import CATCH_UP, Say, catch_up, overrides
from benchmarks.table import Row

PARTITIONS = (1, 2, 6)
OUTPUT = "benchmark-scaled"


def task_slots() -> Sequence[int]:
    """Return the numbers of task slots to try: 1, 2, 4 and so on up to the cores of this machine."""
    cores = os.cpu_count() or 1
    return [slots for slots in (1, 2, 4, 8, 16) if slots <= max(2, cores)]


def scaling(rig: Rig, records: int, rounds: int, say: Say) -> list[Row]:
    """Measure the filter's whole-run rate on topics of `records` events, for each number of partitions and slots."""
    servers = rig.bootstrap_servers
    events.create_topic(servers, OUTPUT, max(PARTITIONS))
    measured: dict[str, list[float]] = {}
    for partitions in PARTITIONS:
        topic = f"benchmark-scaled-{partitions}"
        say(f"filling a topic of {partitions} partitions with {records:,} events")
        events.create_topic(servers, topic, partitions)
        events.fill(servers, topic, records, partitions)
        arguments = overrides(
            source__topic=topic,
            source__max_offsets_per_trigger=str(CATCH_UP),
            # As many tasks as partitions: Spark would split a partition's offsets among several.
            source__min_partitions=str(partitions),
            sinks__kafka__topic=OUTPUT,
        )
        for _ in range(rounds):
            for slots in task_slots():
                rate = catch_up(rig, manifest(rig.home, slots), "filter", arguments, records).whole_run
                what = f"partitions {partitions}, task slots {slots}"
                measured.setdefault(what, []).append(rate)
                say(f"  {what}: {rate:,.0f} /s")
        events.delete_topic(servers, topic)
    section = f"Scaling: filter to Kafka, {records:,} events of {events.EVENT_BYTES} bytes"
    return [Row(section, what, "rows/s", runs) for what, runs in measured.items()]


def manifest(folder: Path, slots: int) -> Path:
    """Write the filter's manifest with one executor of so many cores, and the same memory in all; return its path."""
    document = yaml.safe_load(FILTER.read_text())
    document["spec"]["executor"] = {"instances": 1, "cores": slots, "memory": "2g"}
    path = folder / f"filter-{slots}.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
