"""What a feed tells of itself: counts, Prometheus metrics, logs, and whether it is alive and ready."""

import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import prometheus_client

from ingest.feeds.breaker import Retry, State
from ingest.progress import Metrics

LOG = logging.getLogger("ingest.feeds")
_LABELS = ("feed", "topic")
ALIVE_SECONDS = 60.0
"""A feed whose loop hasn't come round for so long is stuck."""


class FeedMetrics:
    """What a feed exports besides what every command does (`ingest.progress.Metrics`); made once a process."""

    def __init__(self, metrics: Metrics) -> None:
        def make(kind: Any, name: str, text: str, *labels: str) -> Any:
            return kind(name, text, (*_LABELS, *labels), registry=metrics.registry)

        counter, gauge = prometheus_client.Counter, prometheus_client.Gauge
        self.source_errors = make(counter, "ingest_source_errors", "Failures of the source, by kind.", "kind")
        self.dead_letters = make(
            counter, "ingest_dead_letters", "Records sent to the dead-letter topic, by reason.", "reason"
        )
        self.skipped = make(counter, "ingest_skipped", "Records that were not sent, by reason.", "reason")
        self.gaps = make(
            counter, "ingest_gaps", "Numbers of the source's own count that never came, by what is counted.", "of"
        )
        self.connections = make(counter, "ingest_connections", "Sessions that the source accepted.")
        self.breaker = make(gauge, "ingest_breaker_state", "Circuit breaker: 0 closed, 1 half-open, 2 open.")
        self.quiet = make(gauge, "ingest_quiet", "1 if the source may well give nothing for ten minutes.")
        self.ready = make(gauge, "ingest_ready", "1 while the source is connected and the breaker closed.")


@dataclass
class Report:
    """Counts of one feed, and its state as `/healthz` and `/readyz` tell it."""

    feed: str
    topic: str
    metrics: FeedMetrics
    retry: Retry = field(default_factory=Retry)
    quiet: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    connected: bool = False
    trouble: str = ""
    _beat: float = field(default_factory=time.monotonic)
    _logged: float = float("-inf")  # when a dead letter was last logged, time.monotonic()

    def __post_init__(self) -> None:
        self.metrics.quiet.labels(self.feed, self.topic).set(int(self.quiet))
        self._show()

    def beat(self) -> None:
        """Note that the loop came round."""
        self._beat = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether the loop came round lately."""
        return time.monotonic() - self._beat < ALIVE_SECONDS

    @property
    def ready(self) -> bool:
        """Whether the source is connected and nothing is wrong with it."""
        return self.connected and self.retry.state is State.CLOSED

    def began(self) -> None:
        """Note that a session is tried."""
        self.retry.began()
        self._show()

    def accepted(self) -> None:
        """Note that the source accepted a session."""
        self.connected = True
        self.counts["connections"] += 1
        self.metrics.connections.labels(self.feed, self.topic).inc()
        LOG.info("connected", extra={"fields": self._fields()})
        self._show()

    def succeeded(self) -> None:
        """Note that the source gives what it should."""
        if self.retry.state is not State.CLOSED:
            LOG.info("breaker closed", extra={"fields": self._fields()})
        self.retry.succeeded()
        self._show()

    def ended(self) -> float:
        """Note that the source ended a session in good order; return the seconds to wait before the next."""
        self.connected = False
        wait = self.retry.ended()
        self._show()
        return wait

    def broke(self, kind: str, text: str) -> float:
        """Note that a session broke or couldn't begin; return the seconds to wait before the next."""
        self.failed(kind, text)
        self.connected = False
        before, wait = self.retry.state, self.retry.failed()
        if self.retry.state is State.OPEN and before is not State.OPEN:
            LOG.warning("breaker open", extra={"fields": self._fields(seconds=wait)})
        self._show()
        return wait

    def failed(self, kind: str, text: str) -> None:
        """Count a failure of the source."""
        self.trouble = text
        self.counts["source_errors"] += 1
        self.metrics.source_errors.labels(self.feed, self.topic, kind).inc()
        LOG.warning("source failed", extra={"fields": self._fields(kind=kind, reason=text)})

    def skipped(self, reason: str, number: int = 1) -> None:
        """Count records that are not sent: `duplicate`, `late`, `unknown` or `heartbeat`."""
        self.counts[f"skipped_{reason}"] += number
        self.metrics.skipped.labels(self.feed, self.topic, reason).inc(number)

    def gap(self, of: str, number: int) -> None:
        """Count numbers of the source's own count that never came."""
        self.counts[f"gaps_{of}"] += number
        self.metrics.gaps.labels(self.feed, self.topic, of).inc(number)

    def dead_letter(self, kind: str, reason: str) -> None:
        """Count a dead letter. At most one a second is logged: the topic holds them all."""
        self.counts["dead_letters"] += 1
        self.metrics.dead_letters.labels(self.feed, self.topic, kind).inc()
        if time.monotonic() - self._logged >= 1.0:
            self._logged = time.monotonic()
            fields = self._fields(reason=reason, dead_letters=self.counts["dead_letters"])
            LOG.warning("dead letter", extra={"fields": fields})

    def state(self) -> dict[str, Any]:
        """Return what `/readyz` answers."""
        return {
            "feed": self.feed,
            "topic": self.topic,
            "alive": self.alive,
            "ready": self.ready,
            "breaker": self.retry.state.name.lower(),
            "last_failure": self.trouble or None,
        }

    def _fields(self, **more: Any) -> dict[str, Any]:
        return {"feed": self.feed, "topic": self.topic, **more}

    def _show(self) -> None:
        self.metrics.breaker.labels(self.feed, self.topic).set(int(self.retry.state))
        self.metrics.ready.labels(self.feed, self.topic).set(int(self.ready))
