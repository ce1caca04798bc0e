"""Dead letters: what their headers say, which of them are wanted, and which were replayed before."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Message

from ingest.errors import BadInputError, IngestError

ENVELOPE = ("reason", "source-topic", "source-partition", "source-offset", "source-timestamp")
"""Headers that a dead letter has besides those of its record."""
REPLAYED_FROM = "replayed-from"
"""Header of a record that was replayed: `<dead-letter topic>/<partition>/<offset>`."""
LONGEST_NOTE = 4000
"""Characters that can be kept with a committed offset; a broker's default limit is 4096 (offset.metadata.max.bytes)."""

Range = tuple[int, int]
"""First and last offset."""


@dataclass(frozen=True)
class Letter:
    """A dead letter, as it goes back."""

    partition: int
    offset: int
    reason: str
    topic: str | None
    """The topic that its record came from; None if nobody noted it."""
    source_partition: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    seconds: float
    """When it was written to the dead-letter topic, since 1970."""

    @property
    def size(self) -> int:
        """Bytes of key and value."""
        return len(self.key or b"") + len(self.value or b"")


def read_letter(record: Message) -> Letter:
    """Return what a record of a dead-letter topic says."""
    headers = [(name, value or b"") for name, value in record.headers() or []]
    envelope = {name: value.decode(errors="replace") for name, value in headers if name in ENVELOPE}
    number = envelope.get("source-partition", "")
    return Letter(
        partition=record.partition() or 0,
        offset=record.offset() or 0,
        reason=envelope.get("reason", ""),
        topic=envelope.get("source-topic") or None,
        source_partition=int(number) if number.isdecimal() else None,
        key=record.key(),
        value=record.value(),
        headers=tuple((name, value) for name, value in headers if name not in (*ENVELOPE, REPLAYED_FROM)),
        seconds=record.timestamp()[1] / 1000,
    )


@dataclass(frozen=True)
class Wanted:
    """Which letters to replay: those that meet every condition given."""

    reasons: Sequence[str] = ()
    """Parts of the reason, any of which will do."""
    since: float | None = None
    """Written to the dead-letter topic then or later, seconds since 1970."""
    until: float | None = None
    """Written before then."""
    partitions: Sequence[int] = ()
    """Of the dead-letter topic."""
    offsets: Range | None = None
    """Of the dead-letter topic, both included."""

    def matches(self, letter: Letter) -> bool:
        """Return whether a letter is wanted."""
        return (
            (not self.reasons or any(part in letter.reason for part in self.reasons))
            and (self.since is None or letter.seconds >= self.since)
            and (self.until is None or letter.seconds < self.until)
            and (not self.partitions or letter.partition in self.partitions)
            and (self.offsets is None or self.offsets[0] <= letter.offset <= self.offsets[1])
        )


def parse_offsets(text: str) -> Range:
    """Return the offsets that `17` or `5-17` means. Raises BadInputError."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise BadInputError(f"--offsets {text}: expected an offset such as 17, or a range such as 5-17.")
    return int(match[1]), int(match[2] or match[1])


@dataclass
class Memory:
    """What was replayed of one partition; kept with the committed offset of a consumer group.

    The committed offset says that all before it is done, the note beside it what is done after it, and what was being
    sent when it was written: after a crash those are looked for in the topics that they were sent to.
    """

    low: int = 0
    done: list[Range] = field(default_factory=list)
    pending: list[Range] = field(default_factory=list)
    since_ms: int = 0
    topics: tuple[str, ...] = ()

    def __contains__(self, offset: int) -> bool:
        """Return whether the letter at an offset was replayed."""
        return offset < self.low or any(first <= offset <= last for first, last in self.done)

    def add(self, ranges: Iterable[Range]) -> None:
        """Note offsets as done."""
        merged: list[Range] = []
        for first, last in sorted([*self.done, *ranges]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(merged[-1][1], last)
            else:
                merged.append((first, last))
        while merged and merged[0][0] <= self.low:
            self.low = max(self.low, merged.pop(0)[1] + 1)
        self.done = merged

    def note(self) -> str:
        """Return what goes beside the committed offset. Raises IngestError if it is too long for Kafka."""
        fields: dict[str, Any] = {"done": _text(self.done)} if self.done else {}
        if self.pending:
            fields |= {"pending": _text(self.pending), "since": self.since_ms, "topics": self.topics}
        text = json.dumps(fields, separators=(",", ":")) if fields else ""
        if len(text) > LONGEST_NOTE:
            raise IngestError(
                f"replaying here and there has left {len(self.done)} separate pieces, more than Kafka remembers for a "
                "consumer group: replay a range without gaps first (fewer filters)."
            )
        return text


def read_memory(offset: int, note: str | None) -> Memory:
    """Return what a committed offset (negative: none) and its note say. Raises IngestError for a note of others."""
    if offset < 0:
        return Memory()
    try:
        fields = json.loads(note) if note else {}
        return Memory(
            low=offset,
            done=_ranges(fields.get("done", "")),
            pending=_ranges(fields.get("pending", "")),
            since_ms=int(fields.get("since", 0)),
            topics=tuple(fields.get("topics", ())),
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise IngestError(
            f"the group's committed offset has a note that isn't a replay's ({note!r}): choose another --group."
        ) from error


def ranges_of(offsets: Iterable[int]) -> list[Range]:
    """Return offsets as ranges."""
    memory = Memory(low=-1)
    memory.add((offset, offset) for offset in offsets)
    return memory.done


def _text(ranges: Sequence[Range]) -> str:
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _ranges(text: str) -> list[Range]:
    return [parse_offsets(part) for part in text.split(",") if part]
