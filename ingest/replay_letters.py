"""Sends dead letters back to where their records came from, once what kept them out is mended; each of them once.

What was replayed is remembered with the committed offsets of a consumer group, of which only one replay is a member at
a time. Before a few letters are sent, their offsets are committed as pending; after their delivery as done. So whatever
interrupts a replay, the next one knows which letters may have been sent, and looks for them in the topics they went to.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from ingest import kafka
from ingest.errors import BadInputError, IngestError
from ingest.kafka import ProducerSettings
from ingest.letter_group import Member, joined
from ingest.letter_sender import Counts, LetterSender
from ingest.letters import REPLAYED_FROM, Letter, Memory, Wanted, ranges_of, read_letter
from ingest.progress import Progress
from ingest.sender import StopRequest

LOG = logging.getLogger("ingest.letters")
CHUNK = 100
"""Letters between two commits: with the largest ones, about 100 MB of memory."""
CLOCKS_MS = 60_000
"""By how much the clocks of this machine and of the broker may differ."""
QUIET_SECONDS = 30.0
SHOWN = 20


@dataclass(frozen=True)
class LetterSettings:
    """Which dead letters to send back."""

    producer: ProducerSettings
    topic: str
    wanted: Wanted = field(default_factory=Wanted)
    group: str = ""
    """Consumer group that remembers; empty: one for the topic."""
    dry_run: bool = False
    again: bool = False
    """Also those that were replayed before."""

    @property
    def group_id(self) -> str:
        """The group's name."""
        return self.group or f"millrace-ingest-replay-{self.topic}"


def replay_letters(settings: LetterSettings, stop: StopRequest, progress: Progress) -> dict[str, Any]:
    """Send the wanted letters back, and return the summary (`state`: `complete` or `stopped`).

    Raises BadInputError if the topic doesn't exist or another replay is at work on it, IngestError if Kafka fails.
    """
    partitions = kafka.partition_count(settings.producer, settings.topic)
    counts = Counts()
    progress.start()
    with joined(settings.producer, settings.topic, settings.group_id, partitions) as member:
        memories = member.memories()
        recover(settings, memories)
        replay = _Replay(settings, member, memories, counts, progress)
        complete = replay.run(stop)
    progress.report()
    return {
        "state": "complete" if complete else "stopped",
        "dry_run": settings.dry_run,
        "read": counts.read,
        "replayed": counts.replayed,
        "already_replayed": counts.already,
        "left_out": counts.left_out,
        "not_replayed": len(counts.refused),
        "refused": counts.refused[:SHOWN],
        "reasons": dict(counts.reasons.most_common(SHOWN)),
        "topics": dict(counts.topics),
        "seconds": progress.seconds,
    }


class _Replay:
    """One run over the topic."""

    def __init__(
        self, settings: LetterSettings, member: Member, memories: dict[int, Memory], counts: Counts, progress: Progress
    ) -> None:
        self._settings, self._member, self._memories = settings, member, memories
        self._counts, self._progress = counts, progress
        self._sender = None if settings.dry_run else LetterSender(settings.producer, settings.topic)

    def run(self, stop: StopRequest) -> bool:
        """Read the topic to where it ends now; return False if a stop was asked for."""
        wanted = self._settings.wanted
        starts = {p: 0 if self._settings.again else memory.low for p, memory in self._memories.items()}
        chosen = {p: start for p, start in starts.items() if not wanted.partitions or p in wanted.partitions}
        if wanted.offsets:
            chosen = {p: max(start, wanted.offsets[0]) for p, start in chosen.items()}
        # Offsets that hold no record are done with the letter that follows them.
        gaps = dict(chosen)
        for records in self._member.read(chosen, CHUNK):
            if stop:
                return False
            letters = [letter for record in records if (letter := self._chosen(read_letter(record)))]
            sent = self._send(letters) if letters else []
            taken = {(letter.partition, letter.offset) for letter in sent}
            for record in records:
                partition, offset = record.partition(), record.offset()
                if (partition, offset) in taken:
                    self._memories[partition].add([(gaps[partition], offset)])
                gaps[partition] = offset + 1
            self._commit({letter.partition for letter in letters})
            self._progress.tick()
        return not stop

    def _chosen(self, letter: Letter) -> Letter | None:
        """Return a letter that goes back now, else None, and count it."""
        self._counts.read += 1
        if not self._settings.wanted.matches(letter):
            self._counts.left_out += 1
        elif letter.offset in self._memories[letter.partition] and not self._settings.again:
            self._counts.already += 1
        elif letter.topic is None:
            self._counts.refuse(letter, "no header source-topic says where it came from")
        else:
            self._counts.reasons[letter.reason.partition(":")[0]] += 1
            self._counts.topics[letter.topic] += 1
            return letter
        return None

    def _send(self, letters: Sequence[Letter]) -> list[Letter]:
        """Send letters, and return those that were delivered."""
        if self._sender is None:
            self._counts.replayed += len(letters)
            return []
        since = int(time.time() * 1000)
        for partition in {letter.partition for letter in letters}:
            memory = self._memories[partition]
            memory.pending = ranges_of(letter.offset for letter in letters if letter.partition == partition)
            memory.since_ms, memory.topics = since, tuple(sorted({letter.topic or "" for letter in letters}))
        self._commit({letter.partition for letter in letters})
        delivered, failure = self._sender.send(letters, self._counts)
        self._counts.replayed += len(delivered)
        self._progress.sent += len(delivered)
        self._progress.bytes += sum(letter.size for letter in delivered)
        if failure:
            # Of the others nobody knows: they stay pending, and the next replay looks for them.
            for letter in delivered:
                self._memories[letter.partition].add([(letter.offset, letter.offset)])
            self._commit({letter.partition for letter in letters})
            raise failure
        for partition in {letter.partition for letter in letters}:
            self._memories[partition].pending = []
        return delivered

    def _commit(self, partitions: set[int]) -> None:
        if not self._settings.dry_run and partitions:
            self._member.commit({p: self._memories[p] for p in partitions})


def recover(settings: LetterSettings, memories: dict[int, Memory]) -> None:
    """Find out which letters an interrupted replay has delivered. Raises IngestError if the topics can't be read."""
    pending = {p: memory for p, memory in memories.items() if memory.pending}
    if not pending:
        return
    since = min(memory.since_ms for memory in pending.values()) - CLOCKS_MS
    found: dict[int, list[int]] = {p: [] for p in pending}
    with kafka.lookup(settings.producer) as consumer:
        for topic in sorted({topic for memory in pending.values() for topic in memory.topics}):
            for origin in _origins(settings, consumer, topic, since):
                name, number, offset = origin.rsplit("/", 2)
                if name == settings.topic and int(number) in pending:
                    found[int(number)].append(int(offset))
    for partition, memory in pending.items():
        delivered = [o for o in found[partition] if any(first <= o <= last for first, last in memory.pending)]
        memory.add(ranges_of(delivered))
        memory.pending = []
        LOG.info(
            "an interrupted replay is taken up",
            extra={"fields": {"partition": partition, "delivered": len(set(delivered))}},
        )


def _origins(settings: LetterSettings, consumer: Consumer, topic: str, since_ms: int) -> Iterator[str]:
    """Yield where each replayed record of a topic came from, of those written since a time (ms since 1970)."""
    try:
        count = kafka.partition_count(settings.producer, topic)
    except BadInputError:
        return  # there is no such topic, so nothing went there
    ends = kafka.end_offsets(consumer, topic, count)
    asked = [TopicPartition(topic, p, max(0, since_ms)) for p in range(count)]
    starts = {
        found.partition: found.offset for found in consumer.offsets_for_times(asked, timeout=kafka.ANSWER_SECONDS)
    }
    left = {p: ends[p] for p, start in starts.items() if 0 <= start < ends[p]}
    consumer.assign([TopicPartition(topic, p, starts[p]) for p in left])
    deadline = time.monotonic() + QUIET_SECONDS
    while left:
        for message in consumer.consume(1000, 0.5):
            deadline = time.monotonic() + QUIET_SECONDS
            partition = message.partition() or 0
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:
                    left.pop(partition, None)
                elif not error.retriable():
                    raise IngestError(f"{topic}/{partition} can't be read ({error.str()}): start again.")
                continue
            yield from (
                (value or b"").decode(errors="replace")
                for name, value in message.headers() or []
                if name == REPLAYED_FROM
            )
            if (message.offset() or 0) >= left.get(partition, 0) - 1:
                left.pop(partition, None)
        if time.monotonic() > deadline:
            raise IngestError(f"{topic} can't be read to its end: the broker stopped answering; start again.")
