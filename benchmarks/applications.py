"""The rate of each shipped stream as it is delivered, on messages that its own feed makes."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmarks import events
from benchmarks.rig import PARTITIONS, Rig
from benchmarks.streams import Say, catch_up, overrides
from benchmarks.table import Row
from embedded.paths import REPOSITORY
from ingest import contracts, lists
from ingest.kafka import ProducerSettings, partition_of
from ingest.simulate import SimulationSettings, air_quality, market
from millrace.targets.base import ApplicationState

APPS = REPOSITORY / "spark-apps"
MOST = 1_000_000
"""Messages: the feed of orders makes no more."""
EVENT_RATE = 1_000
"""Messages for each second of event time: windows, and the ids that are remembered, grow with it."""
BATCH_SECONDS = 300


@dataclass(frozen=True)
class Stream:
    """One app: the topic (and contract) it reads, what makes so many of its messages, and the topics it writes."""

    name: str
    topic: str
    messages: Callable[[int], Iterable[contracts.Message]]
    writes: tuple[str, ...]


def _simulation(count: int) -> SimulationSettings:
    return SimulationSettings(rate=EVENT_RATE, count=count, fast=True)


def _people(count: int) -> Iterator[contracts.Message]:
    """Yield people of every age from 0 to 89."""
    return lists.people(",".join(f"Person {number}={number % 90}" for number in range(count - len(lists.PEOPLE))))


STREAMS = (
    Stream("adults", "input-topic", _people, ("output-topic", "input-topic-dead-letter")),
    Stream("stream-join", "orders", lambda count: lists.orders(count, 1), ("enriched-orders", "orders-dead-letter")),
    Stream(
        "market-ohlc",
        "market-data",
        lambda count: market(_simulation(count)),
        ("market-ohlc", "market-data-dead-letter"),
    ),
    Stream(
        "air-quality",
        "air-quality",
        lambda count: air_quality(_simulation(count)),
        ("air-quality-alerts", "air-quality-dead-letter"),
    ),
)


def applications(rig: Rig, records: int, rounds: int, say: Say) -> list[Row]:
    """Measure each app, as shipped, while it works off a backlog of `records` messages (at most MOST)."""
    records = min(records, MOST)
    section = f"Streams as they are delivered: {records:,} messages of their feeds, {PARTITIONS} partitions"
    feed = ProducerSettings(rig.bootstrap_servers).producer_config()
    rows = []
    for stream in STREAMS:
        say(f"filling {stream.topic} with {records:,} messages for {stream.name}")
        for topic in (stream.topic, *stream.writes):
            events.create_topic(rig.bootstrap_servers, topic, PARTITIONS)
        events.send(stream.topic, encoded(stream.topic, stream.messages(records)), feed)
        arguments = _products(rig) if stream.name == "stream-join" else []
        manifest = APPS / stream.name / "application.yaml"
        found = []
        for _ in range(rounds):
            found.append(catch_up(rig, manifest, stream.name, arguments, records))
            say(f"  {stream.name}: {found[-1].whole_run:,.0f} /s, steady state {found[-1].steady_state:,.0f} /s")
        rows.append(Row(section, f"{stream.name}, whole run", "rows/s", [each.whole_run for each in found]))
        rows.append(Row(section, f"{stream.name}, steady state", "rows/s", [each.steady_state for each in found]))
        events.delete_topic(rig.bootstrap_servers, stream.topic)
    return rows


def encoded(topic: str, messages: Iterable[contracts.Message]) -> Iterator[events.Record]:
    """Yield messages as their feed sends them: checked against the topic's contract, in the partition of their key."""
    contract = contracts.load(topic)
    for message in messages:
        key = contract.key(message)
        yield partition_of(key, PARTITIONS), key, contract.encode(message)


def _products(rig: Rig) -> list[str]:
    """Prepare the reference table outside of what each start removes; return the settings that point to it.

    Raises:
        RuntimeError: when the app failed, or did not end in time.
    """
    path = f"file://{rig.home}/reference/products"
    name = rig.start(APPS / "reference-data" / "application.yaml", overrides(table__path=path))
    deadline = time.monotonic() + BATCH_SECONDS
    while not (status := rig.target.application_status(name)).state.ended:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not end within {BATCH_SECONDS} s")
        time.sleep(0.25)
    if status.state is not ApplicationState.COMPLETED:
        raise RuntimeError(f"{name} ended as {status.state}: {status.message}")
    return overrides(reference__path=path)
