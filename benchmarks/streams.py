"""Throughput, latency and idle cost of Spark apps on a rig."""

import os
import time
from collections.abc import Callable
from typing import Any

import psutil

from benchmarks import events, latency, limits
from benchmarks.rig import EVENT_WINDOWS, FILTER, PARTITIONS, REAL_TIME_FILTER, Rig
from benchmarks.table import Row
from benchmarks.throughput import Rates, rates, rows_read
from embedded.processes import members

INPUT, OUTPUT = "benchmark-input", "benchmark-output"
LOG_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}
PAYLOAD_LINES = 200_000
# Big batches: a backlog is worked off, and a batch's fixed cost is shared by more rows.
CATCH_UP = 1_000_000

WARM_UP_SECONDS = 60

Say = Callable[[str], None]


def overrides(**values: str) -> list[str]:
    """Return `--set` arguments; a double underscore stands for the dot."""
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


WINDOWS = overrides(
    source__topic=INPUT,
    source__max_offsets_per_trigger=str(CATCH_UP),
    source__min_partitions=str(PARTITIONS),
    watermark__scope="topic",
)
FILTER_SETTINGS = overrides(source__max_offsets_per_trigger=str(CATCH_UP))
NO_DEAD_LETTERS = overrides(dead_letter="null")
TO_KAFKA = [*NO_DEAD_LETTERS, *overrides(sinks__delta="null", sinks__kafka__topic=OUTPUT)]
TO_DELTA = [*NO_DEAD_LETTERS, *overrides(sinks__kafka="null")]
WHOLE_APP = overrides(sinks__kafka__topic=OUTPUT, dead_letter__topic="benchmark-dead-letter")


def throughput(rig: Rig, records: int, rounds: int, say: Say) -> list[Row]:
    """Measure the machine's limits and the apps on one topic of `records` events, in `rounds` rounds."""
    servers = rig.bootstrap_servers
    say(f"filling a topic with {records:,} events of {events.EVENT_BYTES} bytes")
    for topic in (INPUT, OUTPUT, "benchmark-dead-letter"):
        events.create_topic(servers, topic, PARTITIONS)
    events.fill(servers, INPUT, records, PARTITIONS)
    payload = events.write_payload_file(rig.home / "payload", min(PAYLOAD_LINES, records))
    measured: dict[str, list[float]] = {}
    ratios: dict[str, list[float]] = {}

    def keep(what: str, rate: float, producer: float) -> None:
        measured.setdefault(what, []).append(rate)
        ratios.setdefault(what, []).append(rate / producer)
        say(f"  {what}: {rate:,.0f} /s, {rate / producer:.2f} of the producer tool")

    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        scratch = f"benchmark-producer-{number}"
        events.create_topic(servers, scratch, PARTITIONS)
        producer = limits.producer_tool(servers, scratch, records, payload, rig.java_home, rig.kafka_jars)
        keep("kafka-producer-perf-test", producer, producer)
        events.delete_topic(servers, scratch)
        keep(
            "kafka-consumer-perf-test",
            limits.consumer_tool(servers, INPUT, records, rig.java_home, rig.kafka_jars),
            producer,
        )
        keep(
            "confluent-kafka loop, filter",
            limits.hand_written_loop(servers, INPUT, OUTPUT, records),
            producer,
        )
        for what, manifest, query, arguments in (
            ("filter to Kafka", FILTER, "filter", FILTER_SETTINGS),
            ("windows to Kafka", EVENT_WINDOWS, "event-windows", [*WINDOWS, *TO_KAFKA]),
            ("windows to Delta", EVENT_WINDOWS, "event-windows", [*WINDOWS, *TO_DELTA]),
            ("windows, whole app", EVENT_WINDOWS, "event-windows", [*WINDOWS, *WHOLE_APP]),
        ):
            found = catch_up(rig, manifest, query, arguments, records)
            keep(f"{what}, whole run", found.whole_run, producer)
            keep(f"{what}, steady state", found.steady_state, producer)
    targets = {
        "filter to Kafka, whole run": "300,000 or 0.45",
        "windows to Kafka, whole run": "250,000 or 0.40",
        "windows to Delta, whole run": "200,000 or 0.30",
    }
    section = f"Throughput: {records:,} events of {events.EVENT_BYTES} bytes, {PARTITIONS} partitions"
    return [Row(section, what, "rows/s", runs, targets.get(what, ""), ratios[what]) for what, runs in measured.items()]


def catch_up(rig: Rig, manifest: Any, query: str, arguments: list[str], records: int) -> Rates:
    """Run an app from the start of the topic until it has read `records` rows; return its rates."""
    progress = rig.run_until(manifest, arguments, query, lambda entries: rows_read(entries) >= records, 900)
    return rates(progress)


def latencies(rig: Rig, seconds: float, runs: int, say: Say) -> list[Row]:
    """Measure latency at 1,000 and 5,000 events/s: micro-batch filter and windows, and the real-time filter."""
    # Small batches one after the other: what counts is their fixed cost, and that grows with the number of tasks.
    quick = overrides(trigger="0 seconds", source__max_partitions="1")
    update = [*quick, *overrides(output_mode="update"), "--set", "spark_conf.spark.sql.shuffle.partitions=1", *TO_KAFKA]
    # Every run of a minute has the end of a batch in it.
    real_time = overrides(trigger="60 seconds")
    rows = []
    for name, manifest, query, arguments, target in (
        ("filter, micro-batch", FILTER, "filter", quick, "p99 < 200 ms"),
        (
            "windows in update mode, micro-batch",
            EVENT_WINDOWS,
            "event-windows",
            [*WINDOWS, *update],
            "p99 < 400 ms",
        ),
        ("filter, real-time mode", REAL_TIME_FILTER, "filter", real_time, "p99 < 50 ms"),
    ):
        for rate in (1_000, 5_000):
            found = latency_of(rig, manifest, query, arguments, rate, seconds, runs)
            section = f"Latency, produce to append: {runs} runs of {seconds:.0f} s each"
            for figure in ("p50", "p99", "max"):
                figures = [getattr(run, figure) for run in found]
                rows.append(
                    Row(
                        section,
                        f"{name}, {rate:,}/s, {figure}",
                        "ms",
                        figures,
                        target if figure == "p99" else "",
                    )
                )
            p50, p99, largest = (row.median for row in rows[-3:])
            say(f"  {name}, {rate:,}/s: p50 {p50:.0f}, p99 {p99:.0f}, max {largest:.0f} ms")
    return rows


def latency_of(
    rig: Rig, manifest: Any, query: str, arguments: list[str], rate: int, seconds: float, runs: int
) -> list[latency.Latency]:
    """Run an app under a steady load and return the latency of `runs` runs of `seconds` after a warm-up."""
    servers = rig.bootstrap_servers
    for topic, config in ((INPUT, {}), (OUTPUT, LOG_APPEND_TIME)):
        events.delete_topic(servers, topic)
        events.create_topic(servers, topic, PARTITIONS, config)
    name = rig.start(manifest, arguments)
    try:
        # One load over all of it: a client that starts to produce waits for its broker first. The app's start and its
        # first batches are bring-up, not latency; and the load goes on for a while after the last run.
        sent = latency.produce_load(servers, INPUT, PARTITIONS, rate, WARM_UP_SECONDS + seconds * runs + 5)
        rig.wait(name, query, lambda entries: rows_read(entries) > 0, 120)
        time.sleep(5)
    finally:
        rig.stop(name)
    match = latency.of_windows if manifest == EVENT_WINDOWS else latency.of_filter
    found = match(sent, latency.read_all(servers, OUTPUT))
    return latency.segments(found, sent[0].produced + WARM_UP_SECONDS * 1000, seconds, runs)


def idle_cost(rig: Rig, seconds: float, runs: int, say: Say) -> list[Row]:
    """Measure the CPU time that event-windows takes per trigger (one a second) while nothing arrives."""
    events.delete_topic(rig.bootstrap_servers, INPUT)
    events.create_topic(rig.bootstrap_servers, INPUT, PARTITIONS)
    events.fill(rig.bootstrap_servers, INPUT, PARTITIONS, PARTITIONS)
    name = rig.start(EVENT_WINDOWS, [*WINDOWS, *WHOLE_APP])
    try:
        rig.wait(name, "event-windows", lambda entries: rows_read(entries) > 0, 120)
        time.sleep(20)  # until the JVM has compiled what an idle trigger runs
        figures = []
        for _ in range(runs):
            before = driver_cpu_seconds()
            time.sleep(seconds)
            figures.append((driver_cpu_seconds() - before) / seconds * 1000)
    finally:
        rig.stop(name)
    row = Row("Idle", "event-windows with nothing to read: CPU per 1 s trigger", "ms", figures)
    say(f"  idle trigger: {row.median:.0f} ms of CPU")
    return [row]


def driver_cpu_seconds() -> float:
    """Return the CPU seconds that the rig's Spark driver (its JVM and its Python) has used so far."""
    total = 0.0
    for process in members(os.environ["MILLRACE_INSTANCE"]):
        try:
            if any("event-windows" in part for part in process.cmdline()):
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total
