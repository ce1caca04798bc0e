"""What a member of a group holds: the records that wait for work, and how far each of its partitions is."""

import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import Message

Partition = tuple[str, int]
"""Topic and number of a partition."""

UNKNOWN = -1


@dataclass
class Position:
    """How far one partition is; each offset is that of the next record."""

    read: int = UNKNOWN
    done: int = UNKNOWN  # all work before it is done
    committed: int = UNKNOWN
    waiting: int = 0  # records that were read and aren't done
    at_end: bool = False  # everything that the partition held was read
    fresh: bool = True  # nothing was read since it was assigned
    bounds: tuple[int, int] | None = None  # the first offset that the partition holds, and its end, as last heard

    def heard(self, low: int, high: int) -> None:
        """Note where the partition begins and ends; negative is what the client hasn't heard, and it may be late."""
        if high >= 0:
            before = self.bounds or (0, 0)
            self.bounds = max(low, before[0]), max(high, before[1])

    @property
    def lag(self) -> int:
        """Records that aren't done."""
        low, high = self.bounds or (0, 0)
        return max(0, high - max(self.done, low))


@dataclass
class Batch:
    """Records for one call of the work, of any of the member's partitions; those of one partition are in its order."""

    records: Sequence[Message]
    offsets: Mapping[Partition, int]
    """Of each partition in the batch, the offset after its last record."""
    event_time: float = 0.0
    """The newest record's time, seconds since 1970: the time Kafka holds, unless the work sets the event's own."""
    lost: bool = False
    """True once a partition of it was taken away before the work was done: somebody else does it again."""
    positions: dict[Partition, Position] = field(default_factory=dict, repr=False)


def partition_of(message: Message) -> Partition:
    """Return the partition that a record was read from."""
    return message.topic() or "", message.partition() or 0


def size_of(message: Message) -> int:
    """Return the bytes of a record's key and value."""
    return len(message.key() or b"") + len(message.value() or b"")


class Held:
    """The partitions of a member and their records that wait, in the order they were read."""

    def __init__(self) -> None:
        self.positions: dict[Partition, Position] = {}
        self.bytes = 0
        self._records: deque[Message] = deque()
        self._since = 0.0  # time.monotonic() when the oldest record began to wait

    def __len__(self) -> int:
        """Return how many records wait."""
        return len(self._records)

    @property
    def seconds(self) -> float:
        """How long the oldest record has waited; 0 if none waits."""
        return time.monotonic() - self._since if self._records else 0.0

    def assign(self, partition: Partition, offset: int, committed: int) -> None:
        """Begin with a partition at an offset; UNKNOWN stands for its first record, and for no commit."""
        self.positions[partition] = Position(offset, offset, committed)

    def add(self, message: Message) -> None:
        """Let a record wait, unless its partition isn't ours any more or it was read before."""
        position = self.positions.get(partition_of(message))
        offset = message.offset() or 0
        if position is None or offset < position.read:
            return
        if not self._records:
            self._since = time.monotonic()
        self._records.append(message)
        self.bytes += size_of(message)
        position.read, position.at_end, position.fresh = offset + 1, False, False
        position.waiting += 1

    def end(self, partition: Partition, offset: int) -> None:
        """Note that a partition ends at an offset. Markers of transactions may lie between it and the last record."""
        position = self.positions.get(partition)
        if position is not None:
            position.read, position.at_end, position.fresh = max(position.read, offset), True, False
            self._settle(position)

    def take(self, records: int, size: int) -> Batch:
        """Return the oldest records as a batch: at most so many, and so many bytes unless one alone is larger."""
        taken: list[Message] = []
        total = 0
        while self._records and len(taken) < records:
            total += size_of(self._records[0])
            if taken and total > size:
                break
            taken.append(self._records.popleft())
            self.bytes -= size_of(taken[-1])
        offsets = {partition_of(message): (message.offset() or 0) + 1 for message in taken}
        newest = max((message.timestamp()[1] for message in taken), default=0)
        return Batch(taken, offsets, max(0, newest) / 1000, False, {p: self.positions[p] for p in offsets})

    def finish(self, batch: Batch) -> None:
        """Note that a batch's work is done; what was taken away since doesn't count."""
        counts = Counter(partition_of(message) for message in batch.records)
        for partition, position in batch.positions.items():
            if self.positions.get(partition) is position:
                position.waiting -= counts[partition]
                position.done = batch.offsets[partition]
                self._settle(position)

    def _settle(self, position: Position) -> None:
        if not position.waiting:
            position.done = position.read

    def release(self, partitions: Collection[Partition]) -> None:
        """Forget partitions, and their records that wait."""
        for partition in partitions:
            self.positions.pop(partition, None)
        self._records = deque(message for message in self._records if partition_of(message) in self.positions)
        self.bytes = sum(size_of(message) for message in self._records)

    def uncommitted(self, partitions: Collection[Partition] | None = None) -> dict[Partition, int]:
        """Return what is done and not committed yet, of all partitions or of some."""
        chosen = self.positions if partitions is None else {p: self.positions[p] for p in partitions}
        return {p: each.done for p, each in chosen.items() if each.done not in (UNKNOWN, each.committed)}

    @property
    def all_done(self) -> bool:
        """Whether every partition was read to its end, and all of that is done and committed."""
        return not self.uncommitted() and all(each.at_end and not each.waiting for each in self.positions.values())
