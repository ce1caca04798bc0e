"""The only member of the consumer group that remembers which dead letters were replayed."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from ingest import kafka
from ingest.errors import BadInputError, IngestError
from ingest.kafka import ProducerSettings
from ingest.letters import Memory, read_memory

LOG = logging.getLogger("ingest.letters")
SESSION_SECONDS = 10
"""After this long without a sign of life the group forgets a member that was killed."""
JOIN_SECONDS = 60.0
# What a broker answers for a moment about a group that has just come to be, or that moves to another broker.
_NO_COORDINATOR = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
QUIET_SECONDS = 30.0


@contextmanager
def joined(settings: ProducerSettings, topic: str, group: str, partitions: int) -> Iterator["Member"]:
    """Join the group as its only member, and leave it at the end.

    Raises BadInputError if another replay is a member, IngestError if Kafka doesn't let this one in.
    """
    _wait_for_others(settings, topic, group)
    consumer = Consumer(
        {
            **settings.connection_config(),
            "client.id": "millrace-ingest",
            "group.id": group,
            "session.timeout.ms": SESSION_SECONDS * 1000,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "queued.max.messages.kbytes": 16_384,
            "fetch.wait.max.ms": 50,
        },
        logger=LOG,
    )
    member = Member(consumer, topic, partitions)
    try:
        member.join()
        yield member
    except KafkaException as error:
        raise IngestError(f"{topic} can't be replayed ({error.args[0].str()}): start again.") from error
    finally:
        consumer.close()


def _wait_for_others(settings: ProducerSettings, topic: str, group: str) -> None:
    """Wait until a member that was killed is forgotten; refuse to disturb one that lives."""
    admin = AdminClient(settings.connection_config(), logger=LOG)
    deadline = time.monotonic() + SESSION_SECONDS + 5
    while True:
        try:
            members = admin.describe_consumer_groups([group])[group].result(kafka.ANSWER_SECONDS).members
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return
            if error.args[0].code() in _NO_COORDINATOR and time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            raise IngestError(
                f"Kafka does not tell of the group {group} ({error.args[0].str()}): try again."
            ) from error
        if not members:
            return
        if time.monotonic() > deadline:
            raise BadInputError(
                f"another replay of {topic} is at work (group {group}): wait until it ends, or stop it."
            )
        time.sleep(0.5)


class Member:
    """A consumer that has all partitions of the topic, and whose commits say what was replayed."""

    def __init__(self, consumer: Consumer, topic: str, partitions: int) -> None:
        self._consumer, self._topic, self._partitions = consumer, topic, partitions
        self._mine: list[int] = []
        self._lost = False

    def join(self) -> None:
        """Wait until the group has let this member in. Raises BadInputError if it must share the topic."""

        def assigned(consumer: Consumer, found: list[TopicPartition]) -> None:
            self._mine = [each.partition for each in found]
            consumer.assign([])  # what is read, and from where, is decided later

        def revoked(consumer: Consumer, found: list[TopicPartition]) -> None:
            self._lost = True

        self._consumer.subscribe([self._topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
        deadline = time.monotonic() + JOIN_SECONDS
        while not self._mine:
            message = self._consumer.poll(0.1)
            error = message.error() if message else None
            if error and not error.retriable() and error.code() != KafkaError._PARTITION_EOF:
                raise IngestError(f"the group does not let this replay in ({error.str()}): check the user's rights.")
            if time.monotonic() > deadline:
                raise IngestError(f"the group did not let this replay in within {JOIN_SECONDS:.0f} s: try again.")
        if len(self._mine) < self._partitions:
            raise BadInputError(f"another replay of {self._topic} is at work: wait until it ends, or stop it.")

    def memories(self) -> dict[int, Memory]:
        """Return what was replayed of each partition."""
        asked = [TopicPartition(self._topic, p) for p in sorted(self._mine)]
        found = self._consumer.committed(asked, timeout=kafka.ANSWER_SECONDS)
        return {each.partition: read_memory(each.offset, each.metadata) for each in found}

    def commit(self, memories: Mapping[int, Memory]) -> None:
        """Keep what was replayed. Raises IngestError if this replay is no longer the group's member."""
        offsets = [TopicPartition(self._topic, p, each.low, each.note()) for p, each in sorted(memories.items())]
        try:
            for found in self._consumer.commit(offsets=offsets, asynchronous=False) or []:
                if found.error:
                    raise KafkaException(found.error)
        except KafkaException as error:
            raise IngestError(
                f"Kafka did not keep what was replayed of {self._topic} ({error.args[0].str()}): start again, which "
                "finds out what was delivered."
            ) from error

    def read(self, starts: Mapping[int, int], most: int) -> Iterator[list[Message]]:
        """Yield the records from these offsets to where the partitions end now, at most `most` at a time.

        Raises IngestError if the broker stops answering, or another replay has joined the group.
        """
        ranges = kafka.offset_ranges(self._consumer, self._topic, self._partitions)
        left = {p: ranges[p][1] for p, start in starts.items() if max(start, ranges[p][0]) < ranges[p][1]}
        self._consumer.assign([TopicPartition(self._topic, p, max(starts[p], ranges[p][0])) for p in left])
        deadline = time.monotonic() + QUIET_SECONDS
        while left:
            records = []
            for message in self._consumer.consume(most, 0.5):
                deadline = time.monotonic() + QUIET_SECONDS
                partition, error = message.partition() or 0, message.error()
                if error is None:
                    if (message.offset() or 0) < left.get(partition, 0):
                        records.append(message)
                    if (message.offset() or 0) >= left.get(partition, 0) - 1:
                        left.pop(partition, None)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.pop(partition, None)
                elif not error.retriable():
                    raise IngestError(f"{self._topic}/{partition} can't be read ({error.str()}): start again.")
            if self._lost:
                raise IngestError(f"another replay of {self._topic} has begun: start again when it has ended.")
            if records:
                yield records
            if time.monotonic() > deadline:
                raise IngestError(f"{self._topic} can't be read: the broker stopped answering; start again.")
