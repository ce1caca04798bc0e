"""What stands for Kafka's client in tests of a member: topics that are lists, and rebalances when the test says so."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

TOPIC = "readings"


class FakeMessage:
    def __init__(
        self, partition: int, offset: int, value: bytes | None = b"v", error: KafkaError | None = None
    ) -> None:
        self._partition, self._offset, self._value, self._error = partition, offset, value, error

    def topic(self) -> str:
        return TOPIC

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000 + self._offset

    def error(self) -> KafkaError | None:
        return self._error


class FakeConsumer:
    """One member's client. `logs` holds each partition's offsets, in order; `ends` its end if markers follow them."""

    def __init__(self, logs: dict[int, list[int]], ends: dict[int, int] | None = None) -> None:
        self.logs, self.ends = logs, ends or {}
        self.stored: dict[int, int] = {}  # what the group has committed
        self.oldest: dict[int, int] = {}
        self.events: list[str] = []  # what was asked of the client, in order
        self.refuse_commits = 0
        self.polls = 0
        self.paused: set[int] = set()
        self.positions: dict[int, int] = {}
        self._told_end: set[int] = set()
        self._rebalances: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()
        self._callbacks: dict[str, Callable[[Any, list[TopicPartition]], None]] = {}

    def subscribe(self, topics: list[str], **callbacks: Callable[[Any, list[TopicPartition]], None]) -> None:
        assert topics == [TOPIC]
        self._callbacks = callbacks

    def rebalance(self, kind: str, *partitions: int) -> None:
        """Let the next poll call `on_assign`, `on_revoke` or `on_lost`; wait until it has."""
        done = threading.Event()

        def happen() -> None:
            try:
                self._callbacks[kind](self, [TopicPartition(TOPIC, p) for p in partitions])
            finally:
                done.set()

        self._rebalances.append(happen)
        assert done.wait(10)

    def assign_at_once(self, *partitions: int) -> None:
        """Let the first poll assign partitions."""
        found = [TopicPartition(TOPIC, p) for p in partitions]
        self._rebalances.append(lambda: self._callbacks["on_assign"](self, found))

    def poll(self, timeout: float = 0) -> FakeMessage | None:
        self.polls += 1
        while self._rebalances:
            self._rebalances.popleft()()
        for partition in list(self.positions):
            if partition not in self.paused and (message := self._next(partition)) is not None:
                return message
        time.sleep(min(timeout, 0.005))
        return None

    def _next(self, partition: int) -> FakeMessage | None:
        at = self.positions[partition]
        if at < self.oldest.get(partition, 0):
            return self._failure(partition, KafkaError._AUTO_OFFSET_RESET)
        for offset in self.logs[partition]:
            if offset >= at:
                self.positions[partition] = offset + 1
                self._told_end.discard(partition)
                return FakeMessage(partition, offset)
        if partition in self._told_end:
            return None
        self._told_end.add(partition)
        self.positions[partition] = self._end(partition)
        return FakeMessage(partition, self._end(partition), None, KafkaError(KafkaError._PARTITION_EOF))

    def _failure(self, partition: int, code: int) -> FakeMessage:
        return FakeMessage(partition, -1, None, KafkaError(code))

    def _end(self, partition: int) -> int:
        last = self.logs[partition][-1] + 1 if self.logs[partition] else 0
        return max(self.ends.get(partition, 0), last)

    def get_watermark_offsets(self, where: TopicPartition, **_: Any) -> tuple[int, int]:
        return self.oldest.get(where.partition, 0), self._end(where.partition)

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [TopicPartition(p.topic, p.partition, self.stored.get(p.partition, -1001)) for p in partitions]

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        assert not asynchronous
        if self.refuse_commits:
            self.refuse_commits -= 1
            raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))
        for each in offsets:
            self.stored[each.partition] = each.offset
            self.events.append(f"commit {each.partition}@{each.offset}")
        return offsets

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self.positions[each.partition] = max(each.offset, 0)
            self._told_end.discard(each.partition)
            self.events.append(f"assign {each.partition}@{each.offset}")

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """Take partitions away; as with Kafka's client, a paused one is still paused when it comes back."""
        for each in partitions:
            self.positions.pop(each.partition, None)
            self.events.append(f"unassign {each.partition}")

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(TOPIC, p) for p in self.positions]

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.paused |= {each.partition for each in partitions}

    def resume(self, partitions: list[TopicPartition]) -> None:
        self.paused -= {each.partition for each in partitions}

    def close(self) -> None:
        if self.positions:
            self._callbacks["on_revoke"](self, self.assignment())
        self.events.append("close")
