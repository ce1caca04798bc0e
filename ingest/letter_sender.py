"""Sends dead letters, each by itself, and says what became of each."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from ingest import kafka
from ingest.errors import BadInputError, IngestError
from ingest.kafka import ProducerSettings
from ingest.letters import REPLAYED_FROM, Letter

LOG = logging.getLogger("ingest.letters")


@dataclass
class Counts:
    """What became of the letters."""

    read: int = 0
    replayed: int = 0
    already: int = 0
    left_out: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)
    refused: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, letter: Letter, why: str) -> None:
        """Note a letter that can't go back."""
        place = {"partition": letter.partition, "offset": letter.offset, "bytes": letter.size, "why": why}
        self.refused.append(place)
        LOG.error("not replayed", extra={"fields": place})


class LetterSender:
    """Sends letters to their topics and says of each what became of it."""

    def __init__(self, settings: ProducerSettings, topic: str) -> None:
        self._topic = topic
        config = settings.producer_config() | {
            # A letter that is refused must not stop the next one, which is another record's.
            "enable.gapless.guarantee": False,
            "message.timeout.ms": settings.delivery_timeout_seconds * 1000,
            "delivery.report.only.error": False,
            # Each by itself: a topic's limit is for a batch, and a letter that fits must not fail for its neighbours.
            "batch.num.messages": 1,
            "linger.ms": 0,
            "message.max.bytes": 64 * 1024 * 1024,
        }
        self._settings = settings
        self._producer = Producer(config, logger=LOG)
        self._partitions: dict[str, int] = {}

    def send(self, letters: Sequence[Letter], counts: Counts) -> tuple[list[Letter], IngestError | None]:
        """Send letters and wait; return those that were delivered, and why the replay can't go on (or None)."""
        ends: dict[tuple[int, int], KafkaError | None] = {}

        def note(letter: Letter) -> Any:
            return lambda error, _: ends.__setitem__((letter.partition, letter.offset), error)

        for letter in letters:
            topic = letter.topic or ""
            try:
                place = self._place(topic, letter)
            except BadInputError as error:
                counts.refuse(letter, str(error))
                continue
            origin = f"{self._topic}/{letter.partition}/{letter.offset}".encode()
            headers = [*letter.headers, (REPLAYED_FROM, origin)]
            try:
                self._producer.produce(topic, letter.value, letter.key, place, note(letter), headers=headers)
            except KafkaException as error:
                ends[letter.partition, letter.offset] = error.args[0]
        # Every message ends by itself, delivered or failed, after `message.timeout.ms` at the latest.
        while self._producer.flush(1.0):
            pass
        delivered = []
        failure: IngestError | None = None
        for letter in letters:
            if (letter.partition, letter.offset) not in ends:
                continue
            problem = ends[letter.partition, letter.offset]
            if problem is None:
                delivered.append(letter)
            elif problem.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                counts.refuse(letter, f"too large for {letter.topic}: raise its max.message.bytes, then replay again")
            else:
                failure = IngestError(
                    f"{letter.topic} did not take a dead letter ({problem.str()}): mend the cause and start again; "
                    "what was delivered is remembered."
                )
        return delivered, failure

    def _place(self, topic: str, letter: Letter) -> int:
        """Return the partition that a record came from, or that of its key if there is no such one any more."""
        if topic not in self._partitions:
            self._partitions[topic] = kafka.partition_count(self._settings, topic)
        count = self._partitions[topic]
        if letter.source_partition is not None and letter.source_partition < count:
            return letter.source_partition
        return kafka.partition_of(letter.key, count) if letter.key else 0
