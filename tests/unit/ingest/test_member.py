"""A group's member: what it commits and when, under pressure, in rebalances, and when the work fails."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import KafkaError

from ingest.consumer_metrics import Account, ConsumerMetrics
from ingest.consumer_settings import ConsumerSettings
from ingest.errors import BadInputError, IngestError
from ingest.member import Member
from ingest.positions import Batch
from ingest.sender import StopRequest
from tests.unit.ingest.group import TOPIC, FakeConsumer


class Run:
    """A member at work in a thread; its work notes the batches, and waits while the test holds it."""

    def __init__(self, consumer: FakeConsumer, **settings: Any) -> None:
        self.consumer = consumer
        self.batches: list[Batch] = []
        self.go = threading.Event()
        self.go.set()
        self.stop = StopRequest()
        self.account = Account("group", (TOPIC,), ConsumerMetrics())
        self.failure: Exception | None = None
        self.start: Callable[[str, int], int | None] | None = None
        defaults = {"batch_records": 5, "buffer_records": 10}
        self.settings = ConsumerSettings("127.0.0.1:1", **{**defaults, **settings})
        self.result: Future[dict[str, Any]]

    def work(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.consumer.events.append("work")
        assert self.go.wait(20)
        if self.failure is not None:
            raise self.failure

    def member(self) -> Member:
        return Member(self.settings, self.account, self.work, self.stop, self.start)

    def to_end(self) -> dict[str, Any]:
        return self.member().run(self.consumer, until_end=True)

    def done(self) -> list[tuple[int, int]]:
        return [(m.partition(), m.offset()) for batch in self.batches for m in batch.records]

    def metric(self, name: str, **labels: str) -> float | None:
        labels = {"group": "group", "topic": TOPIC} | labels
        return self.account.metrics.registry.get_sample_value(f"ingest_consumer_{name}", labels)


@contextmanager
def running(run: Run) -> Iterator[Run]:
    """Let a member run until the block ends; then it is stopped as by a signal."""
    member = run.member()
    with ThreadPoolExecutor(1) as pool:
        run.result = pool.submit(member.run, run.consumer)
        try:
            yield run
        finally:
            run.stop.signal = signal.SIGTERM
            run.go.set()
    run.result.result()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


def test_every_record_is_done_in_order_and_committed_after_its_work():
    run = Run(FakeConsumer({0: list(range(12)), 1: []}))
    run.consumer.assign_at_once(0, 1)
    summary = run.to_end()
    assert run.done() == [(0, offset) for offset in range(12)]
    commits = [event for event in run.consumer.events if event.startswith("commit 0")]
    assert commits == ["commit 0@5", "commit 0@10", "commit 0@12"]
    assert run.consumer.events.index("commit 0@5") > run.consumer.events.index("work")
    assert summary["state"] == "complete"
    assert (summary["records"], summary["batches"]) == (12, 3)
    assert run.metric("records_total") == 12
    assert run.metric("newest_event_time_seconds") == 1_700_000_000.011
    assert run.consumer.events[-1] == "close"


def test_a_partition_that_ends_with_a_transactions_marker_reaches_lag_zero_and_an_empty_one_is_committed():
    run = Run(FakeConsumer({0: [0, 1, 2], 1: []}, ends={0: 4}))
    run.consumer.assign_at_once(0, 1)
    run.to_end()
    assert run.consumer.stored == {0: 4, 1: 0}


def test_a_later_member_goes_on_where_the_group_stands():
    run = Run(FakeConsumer({0: list(range(12))}))
    run.consumer.stored = {0: 7}
    run.consumer.assign_at_once(0)
    run.to_end()
    assert run.done() == [(0, offset) for offset in range(7, 12)]


def test_the_works_own_output_may_say_where_to_go_on():
    run = Run(FakeConsumer({0: list(range(12)), 1: [0, 1]}))
    run.consumer.stored = {0: 7, 1: 2}
    run.start = lambda topic, partition: 9 if (topic, partition) == (TOPIC, 0) else None
    run.consumer.assign_at_once(0, 1)
    run.to_end()
    assert sorted(run.done()) == [(0, 9), (0, 10), (0, 11), (1, 0), (1, 1)]


def test_reading_pauses_while_too_much_waits_and_polling_goes_on():
    run = Run(FakeConsumer({0: list(range(100)), 1: list(range(100))}))
    run.go.clear()
    run.consumer.assign_at_once(0, 1)
    with running(run):
        wait_for(lambda: run.consumer.paused == {0, 1})
        read = dict(run.consumer.positions)
        polls = run.consumer.polls
        wait_for(lambda: run.consumer.polls > polls + 20)  # the group sees that it lives
        assert run.consumer.positions == read
        assert sum(read.values()) <= 5 + 10  # the batch under way, and a full buffer
        assert run.metric("pauses_total") == 1
        wait_for(lambda: run.metric("lag", partition="1") == 100)
        run.go.set()
        wait_for(lambda: run.consumer.stored == {0: 100, 1: 100})
        assert not run.consumer.paused
        wait_for(lambda: run.metric("lag", partition="1") == 0)
    assert sorted(run.done()) == [(p, offset) for p in (0, 1) for offset in range(100)]
    assert run.result.result()["state"] == "stopped"


def test_large_records_are_pressure_too():
    run = Run(FakeConsumer({0: list(range(50))}), batch_records=20, buffer_records=40, batch_bytes=3, buffer_bytes=6)
    run.go.clear()
    run.consumer.assign_at_once(0)
    with running(run):
        wait_for(lambda: run.consumer.paused)
        assert run.consumer.positions[0] <= 3 + 6
        run.go.set()
        wait_for(lambda: run.consumer.stored == {0: 50})
    assert all(len(batch.records) <= 3 for batch in run.batches)


def test_a_partition_that_was_paused_when_it_left_is_read_when_it_comes_back():
    run = Run(FakeConsumer({0: list(range(100)), 1: list(range(100))}))
    run.go.clear()
    run.consumer.assign_at_once(0, 1)
    with running(run):
        wait_for(lambda: run.consumer.paused == {0, 1})
        run.consumer.rebalance("on_revoke", 1)
        run.go.set()
        wait_for(lambda: run.consumer.paused == {1})
        wait_for(lambda: run.consumer.stored.get(0) == 100)
        run.consumer.rebalance("on_assign", 1)
        wait_for(lambda: run.consumer.stored.get(1) == 100)
    assert len(set(run.done())) == 200


def test_a_partition_that_comes_while_reading_is_paused_is_paused_too():
    run = Run(FakeConsumer({0: list(range(100)), 1: list(range(100))}))
    run.go.clear()
    run.consumer.assign_at_once(0)
    with running(run):
        wait_for(lambda: run.consumer.paused == {0})
        run.consumer.rebalance("on_assign", 1)
        assert run.consumer.paused == {0, 1}
        run.go.set()
        wait_for(lambda: run.consumer.stored == {0: 100, 1: 100})


def test_what_is_under_way_is_finished_and_committed_before_its_partition_is_given_away():
    run = Run(FakeConsumer({0: list(range(8)), 1: []}))
    run.go.clear()
    run.consumer.assign_at_once(0, 1)
    with running(run):
        wait_for(lambda: run.batches and run.consumer.positions[0] == 8)
        revoked = threading.Thread(target=run.consumer.rebalance, args=("on_revoke", 0))
        revoked.start()
        time.sleep(0.05)
        assert "unassign 0" not in run.consumer.events
        run.go.set()
        revoked.join()
        assert run.consumer.stored[0] == len(run.batches[0].records)  # what waited isn't done, and isn't committed
        left = run.consumer.events.index("unassign 0")
        assert run.consumer.events.index(f"commit 0@{run.consumer.stored[0]}") < left
        time.sleep(0.05)
        assert len(run.batches) == 1  # what waited of it was forgotten
        run.consumer.rebalance("on_assign", 0)
        wait_for(lambda: run.consumer.stored[0] == 8)
    assert run.done() == [(0, offset) for offset in range(8)]


def test_a_rebalance_does_not_wait_for_ever():
    run = Run(FakeConsumer({0: list(range(5))}), max_poll_interval_seconds=1.0, session_timeout_seconds=1.0)
    run.go.clear()
    run.consumer.assign_at_once(0)
    with running(run):
        wait_for(lambda: run.batches)
        run.consumer.rebalance("on_revoke", 0)
        assert run.batches[0].lost
        run.go.set()
    assert not run.consumer.stored


def test_what_was_lost_is_not_committed_even_if_the_partition_comes_back_meanwhile():
    run = Run(FakeConsumer({0: list(range(5)), 1: list(range(3))}))
    run.go.clear()
    run.consumer.assign_at_once(0, 1)
    with running(run):
        wait_for(lambda: run.batches)
        run.consumer.stored[0] = 2  # by somebody else, in the meantime
        run.consumer.rebalance("on_lost", 0)
        run.consumer.rebalance("on_assign", 0)
        assert run.batches[0].lost
        run.go.set()
        wait_for(lambda: run.consumer.stored == {0: 5, 1: 3})
    again = [m.offset() for batch in run.batches[1:] for m in batch.records if m.partition() == 0]
    assert again == [2, 3, 4]
    came_back = run.consumer.events.index("assign 0@2")
    assert not any(event.startswith("commit 0") for event in run.consumer.events[:came_back])


def test_work_that_fails_ends_the_run_and_nothing_of_it_is_committed():
    run = Run(FakeConsumer({0: list(range(5))}))
    run.failure = IngestError("the table can't be written")
    run.consumer.assign_at_once(0)
    with pytest.raises(IngestError, match="the table"):
        run.to_end()
    assert not run.consumer.stored
    assert run.consumer.events[-1] == "close"


def test_a_commit_that_is_refused_is_tried_again():
    run = Run(FakeConsumer({0: list(range(5))}))
    run.consumer.refuse_commits = 2
    run.consumer.assign_at_once(0)
    summary = run.to_end()
    assert run.consumer.stored == {0: 5}
    assert summary["commit_errors"] == 2
    assert run.metric("commit_errors_total") == 2
    assert len(run.batches) == 1


def test_no_other_batch_begins_while_one_is_not_committed():
    run = Run(FakeConsumer({0: list(range(50))}))
    run.consumer.refuse_commits = 10**9
    run.consumer.assign_at_once(0)
    with running(run):
        wait_for(lambda: (run.metric("commit_errors_total") or 0) >= 2)
        assert len(run.batches) == 1
        run.consumer.refuse_commits = 0
        wait_for(lambda: run.consumer.stored == {0: 50})


def test_what_is_done_is_committed_before_it_is_given_away_even_if_it_takes_several_attempts():
    run = Run(FakeConsumer({0: list(range(3))}))
    run.consumer.refuse_commits = 10**9
    run.consumer.assign_at_once(0)
    with running(run):
        wait_for(lambda: run.metric("commit_errors_total"))
        run.consumer.refuse_commits = 3
        run.consumer.rebalance("on_revoke", 0)
        assert run.consumer.stored == {0: 3}


def test_a_stop_finishes_the_batch_under_way_and_begins_no_other():
    run = Run(FakeConsumer({0: list(range(50))}))
    run.go.clear()
    run.consumer.assign_at_once(0)
    with running(run):
        wait_for(lambda: run.batches)
    assert len(run.batches) == 1
    assert run.consumer.stored == {0: len(run.batches[0].records)}
    assert run.consumer.events[-1] == "close"


def test_records_that_expired_are_counted_and_the_rest_is_read():
    run = Run(FakeConsumer({0: list(range(12))}))
    run.consumer.stored, run.consumer.oldest = {0: 3}, {0: 9}
    run.consumer.assign_at_once(0)
    run.to_end()
    assert run.done() == [(0, 9), (0, 10), (0, 11)]
    assert run.metric("expired_records_total") == 6


def test_a_batch_waits_to_fill_but_not_longer_than_asked():
    run = Run(FakeConsumer({0: list(range(3))}), batch_seconds=0.2)
    run.consumer.assign_at_once(0)
    with running(run):
        wait_for(lambda: run.consumer.positions.get(0) == 3)
        assert not run.batches
        wait_for(lambda: run.consumer.stored == {0: 3})
    assert len(run.batches) == 1


def test_a_user_that_is_refused_is_told_so():
    run = Run(FakeConsumer({0: []}))
    member = run.member()
    member.error(KafkaError(KafkaError._AUTHENTICATION, "wrong password"))
    with pytest.raises(BadInputError, match="refuses the user"):
        member.run(run.consumer)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_records": 0}, "--batch-records"),
        ({"batch_records": 30_000}, "buffer"),
        ({"batch_seconds": -1}, "--batch-seconds"),
        ({"session_timeout_seconds": 0}, "--session-timeout"),
        ({"session_timeout_seconds": 400}, "--session-timeout"),
    ],
)
def test_settings_that_can_not_be_are_refused(change, words):
    with pytest.raises(BadInputError, match=words):
        ConsumerSettings("127.0.0.1:1", **change)
