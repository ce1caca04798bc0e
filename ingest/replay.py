"""Replay of recorded flights into a topic, each event exactly once however often the replay is interrupted.

Each record carries its position in the sorted range (header `replay-sequence`) and the range
(`replay-range`). Inside a partition records are in that order, and the idempotent producer leaves no gap;
so the last record of a partition says exactly what the partition holds, and a later start continues after
it. One heartbeat per partition ends the range.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Message

from ingest import contracts, kafka
from ingest.errors import BadInputError, IngestError
from ingest.flights import SOURCE, DateRange, FlightEvent, load_events, utc_text
from ingest.kafka import ProducerSettings
from ingest.progress import Progress
from ingest.sender import Sender, StopRequest

LOG = logging.getLogger("ingest.replay")
SEQUENCE_HEADER = "replay-sequence"
RANGE_HEADER = "replay-range"
SETTLE_SECONDS = 1.0


@dataclass(frozen=True)
class ReplaySettings:
    """What to replay, where and how fast."""

    producer: ProducerSettings
    dates: DateRange
    topic: str = "events"
    pace: float = 0.0  # times real time; 0 is as fast as possible
    close_after_minutes: int = 10  # from the last event to the heartbeats that let the last windows close

    def __post_init__(self) -> None:
        if not 0 <= self.pace < float("inf"):
            raise BadInputError(f"the pace must be 0 (as fast as possible) or a positive number, not {self.pace}.")
        if self.close_after_minutes < 0:
            raise BadInputError(f"the minutes until the heartbeats must not be negative: {self.close_after_minutes}.")


@dataclass(frozen=True)
class Plan:
    """What a topic has to hold: the sorted events, then one heartbeat per partition."""

    events: Sequence[FlightEvent]
    dates: DateRange
    partitions: int
    heartbeat_time: int

    def partition(self, sequence: int) -> int:
        """Return the partition of the event at a position."""
        return kafka.partition_of(self.events[sequence].event_id.encode(), self.partitions)

    def heartbeat(self, partition: int) -> contracts.Message:
        """Return the message that ends a partition."""
        return {
            "schema_version": 1,
            "event_id": f"heartbeat/{self.dates}/{partition}",
            "event_type": "heartbeat",
            "event_time": utc_text(self.heartbeat_time),
            "source": SOURCE,
        }

    def key_at(self, sequence: int, partition: int) -> str | None:
        """Return the event id that belongs at a position of a partition; None if none may stand there."""
        if sequence == len(self.events):
            return self.heartbeat(partition)["event_id"]
        if 0 <= sequence < len(self.events) and self.partition(sequence) == partition:
            return self.events[sequence].event_id
        return None

    def remaining(self, held: dict[int, int]) -> Iterator[tuple[int, FlightEvent, bytes, int]]:
        """Yield (sequence, event, key, partition) of each event that lies behind what its partition holds."""
        for sequence in range(min(held.values()) + 1, len(self.events)):
            event = self.events[sequence]
            key = event.event_id.encode()
            partition = kafka.partition_of(key, self.partitions)
            if sequence > held[partition]:
                yield sequence, event, key, partition

    def count_held(self, held: dict[int, int]) -> int:
        """Return how many records, heartbeats included, the topic holds already."""
        furthest = min(max(held.values()) + 1, len(self.events))
        events = sum(sequence <= held[self.partition(sequence)] for sequence in range(furthest))
        return events + sum(last == len(self.events) for last in held.values())


def replay(settings: ReplaySettings, stop: StopRequest, progress: Progress) -> dict[str, Any]:
    """Send what the topic lacks of a range, and return the summary.

    The summary's `state` is `complete` or `stopped` (a signal came; a later start continues). Raises
    BadInputError if the topic holds another range or doesn't exist, IngestError if Kafka fails.
    """
    partitions = kafka.partition_count(settings.producer, settings.topic)
    events = load_events(settings.dates)
    if not events:
        raise BadInputError(f"there are no flights in the range {settings.dates}: choose another --from or --days.")
    plan = Plan(events, settings.dates, partitions, events[-1].event_time + settings.close_after_minutes * 60)
    held = settled_positions(settings, plan)
    already_there = plan.count_held(held)
    LOG.info(
        "replay starts",
        extra={"fields": {"range": str(settings.dates), "events": len(events), "already_there": already_there}},
    )
    sender = Sender(settings.producer, settings.topic, stop, progress)
    progress.start()
    complete = _send(settings, plan, held, sender, progress)
    progress.report()
    end_offsets = _prove(settings, plan) if complete else None
    return {
        "state": "complete" if complete else "stopped",
        "range": str(settings.dates),
        "sent": progress.sent,
        "already_there": already_there,
        "seconds": progress.seconds,
        "end_offsets": end_offsets,
        "last_event_time": utc_text(events[-1].event_time),
        "heartbeat_time": utc_text(plan.heartbeat_time),
    }


def _send(settings: ReplaySettings, plan: Plan, held: dict[int, int], sender: Sender, progress: Progress) -> bool:
    contract = contracts.load("events")
    range_header = (RANGE_HEADER, str(settings.dates).encode())
    began, first_time = time.monotonic(), None
    for sequence, event, key, partition in plan.remaining(held):
        if settings.pace:
            first_time = event.event_time if first_time is None else first_time
            if not sender.wait_until(began + (event.event_time - first_time) / settings.pace):
                break
        value = contract.encode(event.message())
        headers = [(SEQUENCE_HEADER, b"%d" % sequence), range_header]
        if not sender.send(partition, key, value, headers):
            break
        progress.event_time = event.event_time
    else:
        # All events are in the topic before the first heartbeat is, so that none can be overtaken by one.
        return sender.flush() and _send_heartbeats(plan, held, contract, range_header, sender) and sender.flush()
    sender.flush()
    return False


def _send_heartbeats(
    plan: Plan,
    held: dict[int, int],
    contract: contracts.Contract,
    range_header: tuple[str, bytes],
    sender: Sender,
) -> bool:
    headers = [(SEQUENCE_HEADER, b"%d" % len(plan.events)), range_header]
    for partition, last in held.items():
        if last < len(plan.events):
            message = plan.heartbeat(partition)
            if not sender.send(partition, contract.key(message), contract.encode(message), headers):
                return False
    return True


def settled_positions(settings: ReplaySettings, plan: Plan) -> dict[int, int]:
    """Return the last replay sequence that each partition holds, -1 for none.

    Looks twice if there is anything, so as not to run next to another replay, nor to miss what a killed one
    had still on its way to the broker. Raises BadInputError if the topic is being written, or holds
    something else.
    """
    held = positions(settings, plan)
    if max(held.values()) >= 0 and min(held.values()) < len(plan.events):
        time.sleep(SETTLE_SECONDS)
        if positions(settings, plan) != held:
            raise BadInputError(f"another replay is writing to {settings.topic}: wait until it ends, or stop it.")
    return held


def positions(settings: ReplaySettings, plan: Plan) -> dict[int, int]:
    """Return the last replay sequence that each partition holds now; raises BadInputError as above."""
    held = {}
    with kafka.lookup(settings.producer) as consumer:
        for partition in range(plan.partitions):
            records = kafka.last_records(consumer, settings.topic, partition, _is_replayed)
            for record in records:
                _check(record, partition, settings, plan)
            held[partition] = _sequence(records[-1]) if records else -1
    return held


def _is_replayed(record: Message) -> bool:
    return _header(record, SEQUENCE_HEADER) is not None and _header(record, RANGE_HEADER) is not None


def _header(record: Message, name: str) -> str | None:
    for key, value in record.headers() or []:
        if key == name:
            return (value or b"").decode(errors="replace")
    return None


def _sequence(record: Message) -> int:
    text = _header(record, SEQUENCE_HEADER) or ""
    return int(text) if text.isdecimal() else -1


def _check(record: Message, partition: int, settings: ReplaySettings, plan: Plan) -> None:
    there = _header(record, RANGE_HEADER)
    if there != str(plan.dates):
        raise BadInputError(
            f"the topic {settings.topic} holds the range {there}, not {plan.dates}: ask for that range, "
            "or empty the topic first (delete and create it again)."
        )
    expected = plan.key_at(_sequence(record), partition)
    key = (record.key() or b"").decode(errors="replace")
    if key != expected:
        raise BadInputError(
            f"{settings.topic}/{partition} holds {key!r} at offset {record.offset()}, where this replay "
            f"would have put {expected!r}: the number of partitions or the data set has changed; "
            "empty the topic and replay again."
        )


def _prove(settings: ReplaySettings, plan: Plan) -> dict[int, int]:
    """Return the end offsets of a complete topic; raises IngestError if a partition lacks its heartbeat."""
    held = positions(settings, plan)
    if any(last != len(plan.events) for last in held.values()):
        raise IngestError(
            f"{settings.topic} doesn't end with the range's heartbeats after all was acknowledged "
            f"(positions {held}): the topic lost records; empty it and replay again."
        )
    with kafka.lookup(settings.producer) as consumer:
        return kafka.end_offsets(consumer, settings.topic, plan.partitions)
