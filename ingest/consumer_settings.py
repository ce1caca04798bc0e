"""How a member of a consumer group reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ingest.errors import BadInputError
from ingest.kafka import ClientSettings

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class ConsumerSettings(ClientSettings):
    """How a member reads. The defaults are explained in `ingest/README.md`."""

    batch_records: int = 5_000
    batch_bytes: int = 8 * MEBIBYTE
    batch_seconds: float = 0.0  # how long a record waits at most for its batch to fill
    buffer_records: int = 20_000  # when so much waits, reading pauses
    buffer_bytes: int = 32 * MEBIBYTE
    session_timeout_seconds: float = 15.0  # after so long without a sign of life, others take over
    max_poll_interval_seconds: float = 300.0  # a rebalance waits for a batch under way for 4/5 of it
    options: Mapping[str, Any] = field(default_factory=dict)  # more settings, in librdkafka's names

    def __post_init__(self) -> None:
        for name in ("batch_records", "batch_bytes"):
            if getattr(self, name) < 1:
                raise BadInputError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}.")
        if self.buffer_records < self.batch_records or self.buffer_bytes < self.batch_bytes:
            raise BadInputError(
                f"the buffer ({self.buffer_records} records, {self.buffer_bytes} bytes) must hold a batch "
                f"({self.batch_records} records, {self.batch_bytes} bytes): make it larger, or the batch smaller."
            )
        if not 0 <= self.batch_seconds <= 3600:
            raise BadInputError(f"--batch-seconds must be from 0 to 3600, not {self.batch_seconds}.")
        if not 1 <= self.session_timeout_seconds <= self.max_poll_interval_seconds <= 86_400:
            raise BadInputError(
                f"--session-timeout must be from 1 s to the longest time between two polls "
                f"({self.max_poll_interval_seconds} s), not {self.session_timeout_seconds}."
            )

    @property
    def patience(self) -> float:
        """Seconds that a rebalance waits for a batch under way: the group waits no longer than for the next poll."""
        return self.max_poll_interval_seconds * 0.8

    def consumer_config(self, group: str) -> dict[str, Any]:
        """Return the settings in librdkafka's names."""
        return {
            **self.connection_config(),
            "client.id": "millrace-ingest",
            "group.id": group,
            # Only partitions that move are taken away; the others' work goes on through a rebalance.
            "partition.assignment.strategy": "cooperative-sticky",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Says where a partition ends, also after a transaction's marker, which is no record.
            "enable.partition.eof": True,
            # An offset that the topic no longer holds is told to us, who count what was lost and go on.
            "auto.offset.reset": "error",
            "session.timeout.ms": round(self.session_timeout_seconds * 1000),
            "heartbeat.interval.ms": round(self.session_timeout_seconds * 1000 / 5),
            "max.poll.interval.ms": round(self.max_poll_interval_seconds * 1000),
            # What the client itself fetches ahead; the default, 64 MiB, is more than a small pod has.
            "queued.max.messages.kbytes": 16 * 1024,
            "fetch.message.max.bytes": MEBIBYTE,
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 1000,
            **self.options,
        }
