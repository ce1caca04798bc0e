"""What a replay has left to send, without a broker; with one: tests/embedded/test_replay.py."""

from datetime import date

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import BadInputError
from ingest.flights import DateRange, load_events
from ingest.kafka import ProducerSettings, partition_of
from ingest.replay import Plan, ReplaySettings

DATES = DateRange(date(2013, 2, 8), 1)
EVENTS = load_events(DATES)[:400]


def plan(partitions: int) -> Plan:
    return Plan(EVENTS, DATES, partitions, EVENTS[-1].event_time + 600)


@given(partitions=st.integers(1, 7), data=st.data())
def test_what_is_held_and_what_remains_make_the_whole_in_order(partitions, data):
    whole = plan(partitions)
    by_partition: dict[int, list[int]] = {p: [] for p in range(partitions)}
    for sequence in range(len(EVENTS)):
        by_partition[whole.partition(sequence)].append(sequence)
    # A partition holds some prefix of its events, as an interrupted idempotent producer leaves it.
    cut = {p: data.draw(st.integers(0, len(own))) for p, own in by_partition.items()}
    held = {p: own[cut[p] - 1] if cut[p] else -1 for p, own in by_partition.items()}
    rest: dict[int, list[int]] = {p: [] for p in range(partitions)}
    for sequence, event, key, partition in whole.remaining(held):
        assert EVENTS[sequence] is event
        assert key == event.event_id.encode()
        rest[partition].append(sequence)
    assert {p: own[: cut[p]] + rest[p] for p, own in by_partition.items()} == by_partition
    assert whole.count_held(held) == sum(cut.values())


def test_a_complete_topic_has_nothing_left():
    whole = plan(6)
    held = dict.fromkeys(range(6), len(EVENTS))
    assert list(whole.remaining(held)) == []
    assert whole.count_held(held) == len(EVENTS) + 6


def test_a_position_names_the_one_event_that_may_stand_there():
    whole = plan(6)
    partition = whole.partition(17)
    assert whole.key_at(17, partition) == EVENTS[17].event_id
    assert whole.key_at(17, (partition + 1) % 6) is None
    assert whole.key_at(-1, 0) is None
    assert whole.key_at(len(EVENTS), 2) == "heartbeat/2013-02-08+1/2"
    assert whole.key_at(len(EVENTS) + 1, 2) is None


def test_heartbeats_lie_behind_the_last_event():
    assert plan(6).heartbeat(3)["event_time"] > EVENTS[-1].message()["event_time"]


def test_partitions_are_those_that_librdkafka_chooses():
    """Sends to librdkafka's own mock cluster, where its default partitioner chooses."""
    chosen: dict[bytes, int] = {}

    def delivered(error, message):
        assert error is None
        chosen[message.key()] = message.partition()

    producer = Producer({"test.mock.num.brokers": 1, "on_delivery": delivered})
    partitions = len(producer.list_topics("keys", timeout=10).topics["keys"].partitions)
    keys = [event.event_id.encode() for event in EVENTS]
    for key in keys:
        producer.produce("keys", b"", key)
    assert producer.flush(20) == 0
    assert partitions > 1
    assert chosen == {key: partition_of(key, partitions) for key in keys}


@pytest.mark.parametrize("change", [{"pace": -1.0}, {"pace": float("inf")}, {"close_after_minutes": -1}])
def test_bad_settings_are_refused(change):
    with pytest.raises(BadInputError):
        ReplaySettings(ProducerSettings("127.0.0.1:1"), DATES, **change)
