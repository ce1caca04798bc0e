"""Runs a feed: from its sessions into the topic, or into the dead-letter topic, until it is told to stop."""

import contextlib
import logging
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import orjson
from confluent_kafka import Message as Record

from ingest import kafka
from ingest.contracts import Contract, ContractError, Message
from ingest.feeds.interface import IDLE_SECONDS, Feed, Item, SourceError
from ingest.feeds.report import Report
from ingest.kafka import ProducerSettings
from ingest.progress import Metrics, Progress, iso
from ingest.sender import Headers, Sender, StopRequest

LOG = logging.getLogger("ingest.feeds")
FEED_HEADER = "feed"
DEAD_LETTER_BYTES = 64 * 1024
"""A dead letter holds no more of what the source sent, so that every dead-letter topic takes it."""
# How far back the topic is searched for what this feed sent last: records of one partition, and of one look.
_SEARCHED, _LOOK = 50_000, 2_000
_LETTER_SECONDS = 0.005


@dataclass(frozen=True)
class Limits:
    """When a feed ends by itself; 0 for never."""

    count: int = 0  # messages sent
    seconds: float = 0.0


@dataclass(frozen=True)
class Route:
    """Where a feed's records go."""

    name: str
    topic: str
    dead_letter_topic: str
    contract: Contract
    max_record_bytes: int


def run(
    feed: Feed,
    route: Route,
    limits: Limits,
    *,
    producer: ProducerSettings,
    stop: StopRequest,
    report: Report,
    metrics: Metrics,
) -> dict[str, Any]:
    """Run a feed and return the summary (`state`: `complete`, or `stopped` if not all could be sent at the end).

    Raises BadInputError if a topic doesn't exist, IngestError if Kafka fails. What a source does wrong is waited out.
    """
    running = _Run(route, limits, producer, stop, report, metrics)
    feed.restore(running.sent_before(producer))
    running.begin()
    while not running.done:
        wait = running.session(feed)
        running.wait(wait)
    return running.end()


class _Counts(Progress):
    """Counts dead letters; the feed's report shows them, so here is nothing to export or to log."""

    def report(self, now: float | None = None) -> None:
        """Do nothing."""


class _Run:
    def __init__(
        self,
        route: Route,
        limits: Limits,
        producer: ProducerSettings,
        stop: StopRequest,
        report: Report,
        metrics: Metrics,
    ) -> None:
        self._route, self._limits, self._stop, self._report = route, limits, stop, report
        self._partitions = kafka.partition_count(producer, route.topic)
        self._dead_partitions = kafka.partition_count(producer, route.dead_letter_topic)
        self._progress = Progress(route.name, route.topic, metrics)
        self._letters_progress = _Counts(route.name, route.dead_letter_topic, metrics)
        self._sender = Sender(producer, route.topic, stop, self._progress)
        self._letters = Sender(replace(producer, linger_ms=0), route.dead_letter_topic, stop, self._letters_progress)
        self._header: Headers = [(FEED_HEADER, route.name.encode())]
        self._served = 0.0

    def sent_before(self, producer: ProducerSettings) -> list[Message]:
        """Return the newest messages that the topic holds of this feed, of each partition."""
        found: list[Message] = []
        with kafka.lookup(producer) as consumer:
            for partition in range(self._partitions):
                records = kafka.last_records(
                    consumer, self._route.topic, partition, self._is_mine, chunk=_LOOK, limit=_SEARCHED
                )
                found += (orjson.loads(record.value()) for record in records)
        self._progress.event_time = max(map(self._event_time, found), default=0.0)
        LOG.info("resuming", extra={"fields": {"feed": self._route.name, "found": len(found)}})
        return found

    def _is_mine(self, record: Record) -> bool:
        return any(name == FEED_HEADER and value == self._route.name.encode() for name, value in record.headers() or [])

    def begin(self) -> None:
        """Begin to count."""
        self._progress.start()
        self._letters_progress.start()

    @property
    def done(self) -> bool:
        """Whether to end: a signal, or a limit that was reached."""
        limits = self._limits
        return (
            bool(self._stop)
            or (limits.count > 0 and self._progress.sent >= limits.count)
            or (limits.seconds > 0 and self._progress.seconds >= limits.seconds)
        )

    def session(self, feed: Feed) -> float:
        """Deliver what one session yields; return how long to wait before the next."""
        self._report.began()
        proven = False
        # Closed at once when the loop is left, so that the connection is closed before the producers are flushed.
        with contextlib.closing(feed.session()) as items:
            try:
                for item in items:
                    if item is not None and self._deliver(item) and not proven:
                        proven = True
                        self._report.succeeded()
                    self._serve()
                    if self.done:
                        break
            except SourceError as error:
                return self._report.broke(error.kind, str(error))
        return self._report.ended()

    def wait(self, seconds: float) -> None:
        """Wait, serving the producers; ends early if there is nothing to wait for any more."""
        until = time.monotonic() + seconds
        while not self.done and (left := until - time.monotonic()) > 0:
            self._sender.wait_until(time.monotonic() + min(left, IDLE_SECONDS))
            self._serve()

    def end(self) -> dict[str, Any]:
        """Send all that is queued and return the summary."""
        delivered = [self._sender.flush(), self._letters.flush()]
        self._progress.report()
        return {
            "state": "complete" if all(delivered) else "stopped",
            "feed": self._route.name,
            "topic": self._route.topic,
            "sent": self._progress.sent,
            "dead_letters": self._letters_progress.sent,
            **{name: number for name, number in sorted(self._report.counts.items()) if name != "dead_letters"},
            "seconds": self._progress.seconds,
            "last_event_time": iso(self._progress.event_time),
        }

    def _serve(self) -> None:
        now = time.monotonic()
        if now - self._served >= IDLE_SECONDS:
            self._served = now
            self._report.beat()
            self._sender.serve()
            self._letters.serve()

    def _deliver(self, item: Item) -> bool:
        """Send an item, or a dead letter; return whether it was a message that keeps the contract."""
        limit, contract = self._route.max_record_bytes, self._route.contract
        if len(item.raw) > limit:
            self._refuse(item, "oversized", f"oversized: {len(item.raw)} bytes, limit {limit}")
        elif item.message is None:
            self._refuse(item, item.kind, item.reason)
        else:
            try:
                value = contract.encode(item.message)
            except ContractError as error:
                self._refuse(item, "oversized" if "oversized" in str(error) else "invalid", str(error))
                return False
            key = contract.key(item.message)
            if self._sender.send(kafka.partition_of(key, self._partitions), key, value, self._header):
                self._progress.event_time = max(self._progress.event_time, self._event_time(item.message))
            return True
        return False

    def _event_time(self, message: Message) -> float:
        return datetime.fromisoformat(message[self._route.contract.schema["x-event-time"]]).timestamp()

    def _refuse(self, item: Item, kind: str, reason: str) -> None:
        """Send a dead letter and wait until the broker has it.

        Were a later message there before it, a feed that is killed in between would take the record for sent.
        """
        self._report.dead_letter(kind, reason)
        key = self._route.name.encode()
        headers: Headers = [
            ("reason", reason.encode()),
            ("source", key),
            ("source-timestamp", datetime.now(UTC).isoformat(timespec="milliseconds").encode()),
        ]
        if len(item.raw) > DEAD_LETTER_BYTES:
            headers.append(("truncated-from", b"%d" % len(item.raw)))
        partition = kafka.partition_of(key, self._dead_partitions)
        if self._letters.send(partition, key, item.raw[:DEAD_LETTER_BYTES], headers):
            while self._letters.queued and not self._stop:
                self._letters.wait_until(time.monotonic() + _LETTER_SECONDS)
                self._serve()
