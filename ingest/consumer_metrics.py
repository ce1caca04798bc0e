"""What a member of a consumer group tells: a log line each second, Prometheus metrics, and the summary at the end."""

import logging
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import prometheus_client

from ingest.positions import Batch, Partition
from ingest.progress import Metrics, iso

LOG = logging.getLogger("ingest.consumer")
_LABELS = ("group", "topic")


class ConsumerMetrics(Metrics):
    """A feed's metrics and those of a member; made once a process, because names are unique in a registry."""

    def __init__(self, registry: prometheus_client.CollectorRegistry | None = None) -> None:
        super().__init__(registry)

        def counter(name: str, text: str) -> prometheus_client.Counter:
            return prometheus_client.Counter(f"ingest_consumer_{name}", text, _LABELS, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> prometheus_client.Gauge:
            return prometheus_client.Gauge(f"ingest_consumer_{name}", text, (*_LABELS, *labels), registry=self.registry)

        self.records = counter("records", "Records whose work is done.")
        self.batches = counter("batches", "Batches whose work is done.")
        self.commit_errors = counter("commit_errors", "Commits that the broker refused or didn't answer.")
        self.connection_errors = counter("connection_errors", "Errors of the connection to the broker.")
        self.pauses = counter("pauses", "Times that reading was paused because too much waited for the work.")
        self.dead_letters = prometheus_client.Counter(
            "ingest_dead_letters",
            "Records sent to the dead-letter topic, by reason.",
            ("feed", "topic", "reason"),
            registry=self.registry,
        )
        self.expired = counter("expired_records", "Records that the topic dropped before they were read.")
        self.lag = gauge("lag", "Records of a partition that aren't done, of the partitions held.", "partition")
        self.newest_event = gauge(
            "newest_event_time_seconds", "Event time of the newest record whose work is done, seconds since 1970."
        )


@dataclass
class Account:
    """Counts of one member's run, by topic where the metrics have them so."""

    group: str
    topics: Collection[str]
    metrics: ConsumerMetrics
    records: int = 0
    batches: int = 0
    pauses: int = 0
    commit_errors: int = 0
    event_time: float = 0.0
    lag: dict[Partition, int] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _reported: tuple[float, int] = (0.0, 0)  # time.monotonic(), records

    def __post_init__(self) -> None:
        """Show every counter from the beginning, so that its first increase is seen."""
        metrics = self.metrics
        for topic in self.topics:
            for each in (metrics.records, metrics.batches, metrics.commit_errors, metrics.pauses, metrics.expired):
                each.labels(self.group, topic)
            metrics.connection_errors.labels(self.group, topic)

    def count(self, metric: prometheus_client.Counter, topics: Collection[str] | None = None) -> None:
        """Raise a metric by one for each topic given, or for all."""
        for topic in set(self.topics if topics is None else topics):
            metric.labels(self.group, topic).inc()

    def done(self, batch: Batch) -> None:
        """Count a batch whose work is done."""
        self.records += len(batch.records)
        self.batches += 1
        self.count(self.metrics.batches, {topic for topic, _ in batch.offsets})
        for topic, records in Counter(message.topic() for message in batch.records).items():
            self.metrics.records.labels(self.group, topic).inc(records)
        if batch.event_time > self.event_time:
            self.event_time = batch.event_time
            for topic in {topic for topic, _ in batch.offsets}:
                self.metrics.newest_event.labels(self.group, topic).set(batch.event_time)

    def show_lag(self, lag: Mapping[Partition, int]) -> None:
        """Export the lag of the partitions held, and of no others."""
        for topic, partition in self.lag.keys() - lag.keys():
            self.metrics.lag.remove(self.group, topic, str(partition))
        for (topic, partition), records in lag.items():
            self.metrics.lag.labels(self.group, topic, str(partition)).set(records)
        self.lag = dict(lag)

    def due(self) -> bool:
        """Return whether a second has passed since the last line of the log."""
        return time.monotonic() - self._reported[0] >= 1.0

    def report(self) -> None:
        """Log a line."""
        now = time.monotonic()
        then, records = self._reported
        self._reported = (now, self.records)
        fields = {
            "group": self.group,
            "records": self.records,
            "per_second": round((self.records - records) / max(now - max(then, self.started), 1e-9)),
            "partitions": len(self.lag),
            "lag": sum(self.lag.values()),
            "event_time": iso(self.event_time),
        }
        LOG.info("progress", extra={"fields": fields})

    def summary(self, state: str) -> dict[str, Any]:
        """Return what a run came to; `state` is `complete` or `stopped`."""
        return {
            "state": state,
            "group": self.group,
            "records": self.records,
            "batches": self.batches,
            "pauses": self.pauses,
            "commit_errors": self.commit_errors,
            "seconds": round(time.monotonic() - self.started, 3),
            "newest_event_time": iso(self.event_time),
        }
