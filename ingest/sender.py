"""Sending to one topic in order and at a pace, until it is done, fails, or a signal asks to stop."""

import logging
import signal
import time
from collections.abc import Callable
from types import FrameType

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ingest.errors import IngestError
from ingest.kafka import ProducerSettings
from ingest.progress import Progress

LOG = logging.getLogger("ingest.kafka")
STOP_FLUSH_SECONDS = 20.0
Headers = list[tuple[str, bytes]]


class StopRequest:
    """Set by SIGTERM or SIGINT; a second signal ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def install(self) -> None:
        """Take over SIGTERM and SIGINT of this process (call from the main thread)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    def _received(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        for again in (signal.SIGTERM, signal.SIGINT):
            signal.signal(again, signal.SIG_DFL)

    def __bool__(self) -> bool:
        """Return whether a stop was asked for."""
        return self.signal is not None


class Sender:
    """Sends to one topic in order, exactly once each; stops at the first message that can't be delivered."""

    def __init__(self, settings: ProducerSettings, topic: str, stop: StopRequest, progress: Progress) -> None:
        self._topic, self._stop, self._progress = topic, stop, progress
        self._failure: KafkaError | None = None
        self._producer = Producer(
            settings.producer_config() | {"on_delivery": self._delivered, "error_cb": self._error}, logger=LOG
        )
        self._unserved = 0
        self._patience = settings.delivery_timeout_seconds
        self._acknowledged, self._acknowledged_at = 0, time.monotonic()

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self._progress.errors += 1
            self._failure = self._failure or error

    def _error(self, _error: KafkaError) -> None:
        self._progress.errors += 1

    def _call(self, serve: Callable[[float], int], timeout: float) -> None:
        """Serve callbacks; the client raises a fatal error here, inside a SystemError if others follow."""
        try:
            serve(timeout)
        except (KafkaException, SystemError) as error:
            fatal = error if isinstance(error, KafkaException) else error.__cause__
            if not isinstance(fatal, KafkaException):
                raise
            self._failure = fatal.args[0]

    def send(self, partition: int, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> bool:
        """Queue a message, waiting while the queue is full; return False, nothing queued, if asked to stop.

        Raises IngestError if an earlier message could not be delivered.
        """
        while not self._stop:
            self._check()
            try:
                self._producer.produce(self._topic, value, key, partition, headers=headers)
            except BufferError:
                self.serve(0.1)
                continue
            except KafkaException as error:  # a fatal state, or a message too large for the producer
                raise self._failed(error.args[0].str()) from error
            self._progress.sent += 1
            self._progress.bytes += len(value or b"")
            self._unserved += 1
            if self._unserved >= 1000:
                self.serve()
            return True
        return False

    @property
    def queued(self) -> int:
        """Number of messages that the broker hasn't acknowledged yet."""
        return len(self._producer)

    def serve(self, timeout: float = 0.0) -> None:
        """Serve callbacks for up to `timeout` seconds, and report progress if it is due."""
        self._unserved = 0
        self._call(self._producer.poll, timeout)
        self._watch()

    def wait_until(self, moment: float) -> bool:
        """Wait until `time.monotonic()` reaches `moment`; return False if a stop was asked for.

        Raises IngestError if an earlier message could not be delivered.
        """
        while not self._stop:
            self._check()
            left = moment - time.monotonic()
            if left <= 0:
                return True
            self.serve(min(left, 0.2))
        return False

    def flush(self) -> bool:
        """Wait until everything queued is delivered; return False if a stop came and it could not be in 20 s.

        Raises IngestError if a message could not be delivered.
        """
        deadline: float | None = None
        while len(self._producer):
            self._check()
            if self._stop:
                deadline = deadline or time.monotonic() + STOP_FLUSH_SECONDS
                if time.monotonic() > deadline:
                    self._discard()
                    return False
            self._call(self._producer.flush, 0.2)
            self._watch()
        self._check()
        return True

    def _watch(self) -> None:
        """Report progress if it is due, and note when the broker last acknowledged anything."""
        self._progress.tick()
        now, queued = time.monotonic(), len(self._producer)
        acknowledged = self._progress.sent - queued
        if acknowledged > self._acknowledged or not queued:
            self._acknowledged, self._acknowledged_at = acknowledged, now

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failed(self._failure.str())
        if time.monotonic() - self._acknowledged_at > self._patience and len(self._producer):
            raise self._failed(f"the broker acknowledged nothing for {self._patience} s")

    def _discard(self) -> None:
        self._progress.sent -= len(self._producer)
        self._producer.purge()

    def _failed(self, reason: str) -> IngestError:
        self._discard()
        return IngestError(
            f"messages to {self._topic} could not be delivered ({reason}): mend the cause and start again; "
            "a replay continues after the last message that the topic holds."
        )
