"""The loop of a group's member: it polls, while a thread of its own does the work of one batch.

Polling never waits for the work, so the group takes a busy member for alive, however long a batch takes. The one place
where it does wait is a rebalance that takes away partitions of the batch under way.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message, TopicPartition

from ingest.consumer_metrics import Account
from ingest.consumer_settings import ConsumerSettings
from ingest.errors import BadInputError, IngestError
from ingest.kafka import ANSWER_SECONDS
from ingest.positions import UNKNOWN, Batch, Held, Partition
from ingest.sender import StopRequest

LOG = logging.getLogger("ingest.consumer")
POLL_SECONDS = 0.1
WORKING_POLL_SECONDS = 0.01  # when a next batch waits for the work to be done
POLLED_RECORDS = 1_000  # between two looks at everything else
COMMIT_RETRY_SECONDS = 0.5
LAST_COMMIT_SECONDS = 10.0
ASK_SECONDS = 5.0  # between two questions where paused partitions end
NOT_HEARD = (UNKNOWN, UNKNOWN)
_DENIED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED)

Start = Callable[[str, int], int | None]
"""Gives the offset to go on from, of a topic's partition; None for the first that it holds."""


class Member:
    """One member's run. Everything but the work happens in the caller's thread, the rebalances too."""

    def __init__(
        self,
        settings: ConsumerSettings,
        account: Account,
        work: Callable[[Batch], None],
        stop: StopRequest,
        start: Start | None = None,
    ) -> None:
        self._settings, self._account, self._work, self._stop, self._start = settings, account, work, stop, start
        self._held = Held()
        self._running: tuple[Batch, Future[None]] | None = None
        self._consumer: Any = None
        self._refused: KafkaError | None = None
        self._joined = self._paused = False
        self._commit_at = self._asked_at = 0.0

    def error(self, error: KafkaError) -> None:
        """Take note of an error of the connection (the client's `error_cb`)."""
        self._account.count(self._account.metrics.connection_errors)
        if error.code() == KafkaError._AUTHENTICATION:
            self._refused = error

    def run(self, consumer: Any, until_end: bool = False) -> dict[str, Any]:
        """Work until a stop is asked for, or everything is done, and return the summary; the consumer is closed after.

        Raises IngestError, BadInputError and what the work raises.
        """
        self._consumer = consumer
        with ThreadPoolExecutor(1, "work") as pool:
            try:
                consumer.subscribe(
                    list(self._account.topics),
                    on_assign=self._assigned,
                    on_revoke=self._revoked,
                    on_lost=self._lost,
                )
                while not (complete := until_end and self._joined and self._held.all_done):
                    self._poll()
                    self._settle()
                    self._commit()
                    if not self._stop:
                        self._begin(pool, until_end)
                    elif self._running is None:
                        break
                    self._watch_pressure()
                    self._report()
            except KafkaException as error:
                raise IngestError(f"Kafka failed ({error.args[0].str()}): start again.") from error
            finally:
                self._leave()
        self._account.report()
        return self._account.summary("complete" if complete else "stopped")

    def _poll(self) -> None:
        idle = WORKING_POLL_SECONDS if self._running is not None and len(self._held) else POLL_SECONDS
        message = self._consumer.poll(0 if self._running is None and self._ready() else idle)
        for _ in range(POLLED_RECORDS):
            if message is None:
                break
            self._take(message)
            message = None if self._full() else self._consumer.poll(0)
        else:
            if message is not None:
                self._take(message)
        if self._refused is not None:
            raise self._settings.refused(self._refused)

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is None:
            self._held.add(message)
            return
        partition = (message.topic() or "", message.partition() or 0)
        if error.code() == KafkaError._PARTITION_EOF:
            self._held.end(partition, message.offset() or 0)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._expired(partition)
        elif error.code() in _DENIED:
            raise BadInputError(
                f"the user may not read {', '.join(self._account.topics)} as a member of {self._account.group} "
                f"({error.str()}): give it the right to read both the topic and the group."
            )
        elif error.fatal():
            raise IngestError(f"Kafka's client gave up ({error.str()}): start again.")
        else:
            self._account.count(self._account.metrics.connection_errors)
            self._log("the broker reports an error", logging.WARNING, error=error.str())

    def _expired(self, partition: Partition) -> None:
        """Go on at the oldest record there is, after the topic dropped those that were next."""
        position = self._held.positions.get(partition)
        if position is None:
            return
        low, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=ANSWER_SECONDS)
        wanted = max(position.read, 0)
        if wanted > high and not position.fresh:
            raise IngestError(f"{partition[0]} was deleted and made anew while it was read: start again.")
        self._account.metrics.expired.labels(self._account.group, partition[0]).inc(max(0, low - wanted))
        position.read = low
        position.heard(low, high)
        again = [TopicPartition(*partition, low)]
        text = "the topic no longer holds the next record: going on at its oldest"
        self._log(text, logging.WARNING, partitions=_names(again), wanted=wanted, oldest=low)
        # Not seek: a partition whose offset was refused is not being read.
        self._consumer.incremental_unassign(again)
        self._consumer.incremental_assign(again)
        self._apply_pause(again)

    def _ready(self) -> bool:
        """Return whether the next batch is full, or its oldest record has waited long enough."""
        settings, held = self._settings, self._held
        full = len(held) >= settings.batch_records or held.bytes >= settings.batch_bytes
        return full or (len(held) > 0 and held.seconds >= settings.batch_seconds)

    def _begin(self, pool: ThreadPoolExecutor, until_end: bool) -> None:
        # What isn't committed would be done again by others: never more than one batch.
        if self._running is not None or self._held.uncommitted():
            return
        at_end = until_end and all(each.at_end for each in self._held.positions.values())
        if len(self._held) and (self._ready() or at_end):
            batch = self._held.take(self._settings.batch_records, self._settings.batch_bytes)
            self._running = batch, pool.submit(self._work, batch)

    def _settle(self) -> None:
        """Take over the result of the work, if it is done; raises what the work raised."""
        if self._running is None or not self._running[1].done():
            return
        (batch, future), self._running = self._running, None
        future.result()
        self._held.finish(batch)
        self._account.done(batch)
        self._commit_at = 0.0

    def _commit(self, partitions: Collection[Partition] | None = None) -> None:
        """Commit what is done; what the broker doesn't take is tried again, as long as the partition is ours."""
        offsets = self._held.uncommitted(partitions)
        if not offsets or time.monotonic() < self._commit_at:
            return
        self._commit_at = time.monotonic() + COMMIT_RETRY_SECONDS
        try:
            wanted = [TopicPartition(*partition, offset) for partition, offset in offsets.items()]
            answers = self._consumer.commit(offsets=wanted, asynchronous=False)
        except KafkaException as error:
            self._commit_failed(error.args[0], {topic for topic, _ in offsets})
            return
        for answer in answers:
            if answer.error is None:
                self._held.positions[answer.topic, answer.partition].committed = answer.offset
            else:
                self._commit_failed(answer.error, {answer.topic})

    def _commit_failed(self, error: KafkaError, topics: Collection[str]) -> None:
        self._account.commit_errors += 1
        self._account.count(self._account.metrics.commit_errors, topics)
        self._log("a commit failed and will be tried again", logging.WARNING, error=error.str())

    def _commit_before_leaving(self, partitions: Collection[Partition]) -> None:
        """Commit what is done of partitions that go to others; what can't be in 10 s is done again by them."""
        deadline = time.monotonic() + LAST_COMMIT_SECONDS
        while self._held.uncommitted(partitions) and time.monotonic() < deadline:
            self._commit_at = 0.0
            self._commit(partitions)
            if self._held.uncommitted(partitions):
                time.sleep(POLL_SECONDS)

    def _leave(self) -> None:
        """Leave the group: what is under way is waited for and committed, by `_revoked`."""
        try:
            self._consumer.close()
        finally:
            if self._running is not None:
                wait([self._running[1]])

    def _full(self) -> bool:
        return len(self._held) >= self._settings.buffer_records or self._held.bytes >= self._settings.buffer_bytes

    def _watch_pressure(self) -> None:
        """Pause reading when too much waits for the work; go on when half of it is gone."""
        settings, held = self._settings, self._held
        if not self._paused and self._full():
            self._paused = True
            self._account.pauses += 1
            self._account.count(self._account.metrics.pauses)
        elif self._paused and len(held) <= settings.buffer_records // 2 and held.bytes <= settings.buffer_bytes // 2:
            self._paused = False
        else:
            return
        self._apply_pause(self._consumer.assignment())

    def _apply_pause(self, partitions: list[TopicPartition]) -> None:
        """Pause partitions or let them go on, as all of this member's are; the client may remember something else."""
        if partitions:
            (self._consumer.pause if self._paused else self._consumer.resume)(partitions)

    def _assigned(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._joined = True
        if self._start is None:
            partitions = consumer.committed(partitions, timeout=ANSWER_SECONDS) if partitions else []
        else:
            found = [(each, self._start(each.topic, each.partition)) for each in partitions]
            partitions = [TopicPartition(p.topic, p.partition, UNKNOWN if at is None else at) for p, at in found]
        for each in partitions:
            if each.error is not None:
                raise KafkaException(each.error)
            offset = max(each.offset, UNKNOWN)
            self._held.assign((each.topic, each.partition), offset, UNKNOWN if self._start is not None else offset)
            if each.offset < 0:
                each.offset = OFFSET_BEGINNING
        consumer.incremental_assign(partitions)
        self._apply_pause(partitions)
        self._log("partitions assigned", partitions=_names(partitions))

    def _revoked(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Finish and commit what is under way of partitions that go to others, before they go."""
        going = {(each.topic, each.partition) for each in partitions}
        try:
            if self._running is not None and going & self._running[0].offsets.keys():
                wait([self._running[1]], self._settings.patience)
                if not self._running[1].done():
                    self._running[0].lost = True
                    self._log("the work takes too long: others do its batch again", logging.WARNING)
            self._settle()
            self._commit_before_leaving(going & self._held.positions.keys())
        finally:
            self._give_away(consumer, partitions)

    def _lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Drop what is under way of partitions that others have already."""
        if self._running is not None:
            going = {(each.topic, each.partition) for each in partitions}
            self._running[0].lost = self._running[0].lost or bool(going & self._running[0].offsets.keys())
        self._give_away(consumer, partitions)

    def _give_away(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._held.release([(each.topic, each.partition) for each in partitions])
        consumer.incremental_unassign(partitions)
        self._log("partitions given away", partitions=_names(partitions))

    def _log(self, text: str, level: int = logging.INFO, **fields: Any) -> None:
        LOG.log(level, text, extra={"fields": {"group": self._account.group, **fields}})

    def _report(self) -> None:
        if not self._account.due():
            return
        # What is read tells where its partition ends; while nothing is read, that is asked for.
        ask = self._paused and time.monotonic() - self._asked_at > ASK_SECONDS
        if ask:
            self._asked_at = time.monotonic()
        for (topic, partition), position in self._held.positions.items():
            where, cached = TopicPartition(topic, partition), not ask and position.bounds is not None
            with contextlib.suppress(KafkaException):
                position.heard(*self._consumer.get_watermark_offsets(where, timeout=1.0, cached=cached) or NOT_HEARD)
        self._account.show_lag({partition: position.lag for partition, position in self._held.positions.items()})
        self._account.report()


def _names(partitions: Collection[TopicPartition]) -> list[str]:
    return [f"{each.topic}/{each.partition}" for each in partitions]
