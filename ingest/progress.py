"""How far a feed has come: a log line each second, Prometheus metrics, and the summary at the end."""

import errno
import logging
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import prometheus_client

from ingest.errors import BadInputError

LOG = logging.getLogger("ingest.progress")
_LABELS = ("feed", "topic")
_NOT_REPLACEABLE = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a file that is mounted, or whose folder can't be written; the file itself perhaps can."""


class Metrics:
    """What a feed exports to Prometheus; made once a process, because names are unique in a registry."""

    def __init__(self, registry: prometheus_client.CollectorRegistry | None = None) -> None:
        self.registry = registry or prometheus_client.CollectorRegistry()
        self.messages = prometheus_client.Counter(
            "ingest_messages", "Messages handed to the producer.", _LABELS, registry=self.registry
        )
        self.bytes = prometheus_client.Counter(
            "ingest_bytes", "Bytes of message values handed to the producer.", _LABELS, registry=self.registry
        )
        self.errors = prometheus_client.Counter(
            "ingest_errors",
            "Failed deliveries and errors of the connection.",
            _LABELS,
            registry=self.registry,
        )
        self.newest = prometheus_client.Gauge(
            "ingest_newest_event_time_seconds",
            "Event time of the newest message handed to the producer, seconds since 1970.",
            _LABELS,
            registry=self.registry,
        )

    def serve(self, port: int, host: str = "0.0.0.0") -> None:  # noqa: S104 - scraped at the pod's address
        """Serve /metrics; raises BadInputError if the port can't be used."""
        try:
            prometheus_client.start_http_server(port, host, self.registry)
        except (OSError, OverflowError) as error:
            raise BadInputError(
                f"metrics can't be served on port {port} ({error}): choose another --metrics-port."
            ) from error


@dataclass
class Progress:
    """Counts of one run; `sent`, `bytes` and `errors` are raised by the sender, `event_time` by the feed."""

    feed: str
    topic: str
    metrics: Metrics
    sent: int = 0
    bytes: int = 0
    errors: int = 0
    event_time: float = 0.0
    started: float = field(default_factory=time.monotonic)
    _reported: tuple[float, int, int, int] = (0.0, 0, 0, 0)  # time.monotonic(), sent, bytes, errors

    def start(self) -> None:
        """Begin to count the seconds of the run."""
        self.started = time.monotonic()
        self._reported = (self.started, self.sent, self.bytes, self.errors)

    def tick(self) -> None:
        """Log a line and update the metrics if a second has passed since the last time."""
        now = time.monotonic()
        if now - self._reported[0] >= 1.0:
            self.report(now)

    def report(self, now: float | None = None) -> None:
        """Log a line and update the metrics."""
        now = now or time.monotonic()
        then, sent, size, errors = self._reported
        self._reported = (now, self.sent, self.bytes, self.errors)
        labels = (self.feed, self.topic)
        self.metrics.messages.labels(*labels).inc(max(0, self.sent - sent))
        self.metrics.bytes.labels(*labels).inc(max(0, self.bytes - size))
        self.metrics.errors.labels(*labels).inc(max(0, self.errors - errors))
        if self.event_time:
            self.metrics.newest.labels(*labels).set(self.event_time)
        rate = round((self.sent - sent) / max(now - then, 1e-9))
        LOG.info(
            "progress",
            extra={"fields": {"sent": self.sent, "per_second": rate, "event_time": iso(self.event_time)}},
        )

    @property
    def seconds(self) -> float:
        """Seconds since the start of the run, to the millisecond."""
        return round(time.monotonic() - self.started, 3)


def iso(seconds: float) -> str | None:
    """Return seconds since 1970 as `2013-01-01T10:17:00.250Z`, no fraction if it is whole; None for 0."""
    if not seconds:
        return None
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return f"{text}.{thousandths:03}Z" if thousandths else f"{text}Z"


def write_status(path: Path, summary: dict[str, Any]) -> None:
    """Write a summary so that a reader sees the old file or the new one; raises BadInputError if it can't.

    What can't be replaced is written in place: a device, or a file that is mounted into a container or lies in a folder
    of somebody else, as /dev/termination-log.
    """
    content = orjson.dumps(summary, option=orjson.OPT_NON_STR_KEYS) + b"\n"
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            _replace(path, content)
    except OSError as error:
        raise BadInputError(
            f"the status file {path} can't be written ({error.strerror}): check --status-file."
        ) from error


def _replace(path: Path, content: bytes) -> None:
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except OSError as error:
        if name:
            Path(name).unlink(missing_ok=True)
        if error.errno not in _NOT_REPLACEABLE or not path.exists():
            raise
        path.write_bytes(content)
