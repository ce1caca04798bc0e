"""Which dead letters are wanted, and how what was replayed is remembered, without a broker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import BadInputError, IngestError
from ingest.letters import Letter, Memory, Wanted, parse_offsets, ranges_of, read_letter, read_memory


class Record:
    """What a consumer gives."""

    def __init__(self, headers, offset=17):
        self._headers, self._offset = headers, offset

    def headers(self):
        return self._headers

    def partition(self):
        return 2

    def offset(self):
        return self._offset

    def key(self):
        return None

    def value(self):
        return b"\xff"

    def timestamp(self):
        return 1, 1_700_000_000_500


HEADERS = [
    ("trace", b"\x00\x01"),
    ("source-topic", b"events"),
    ("source-partition", b"4"),
    ("source-offset", b"99"),
    ("source-timestamp", b"2026-01-01T00:00:00.000Z"),
    ("reason", b"unknown schema_version 7"),
    ("replayed-from", b"events-dead-letter/0/1"),
]


def test_a_letter_gives_back_what_its_record_was():
    letter = read_letter(Record(HEADERS))
    assert (letter.topic, letter.source_partition, letter.reason) == ("events", 4, "unknown schema_version 7")
    # Only what the dead letter added is taken away, and the way of an earlier replay.
    assert (letter.key, letter.value, letter.headers) == (None, b"\xff", (("trace", b"\x00\x01"),))
    assert letter.seconds == 1_700_000_000.5
    lost = read_letter(Record([("source-partition", b"x")]))
    assert (lost.topic, lost.source_partition, lost.reason) == (None, None, "")


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (Wanted(), True),
        (Wanted(reasons=("malformed", "schema_version")), True),
        (Wanted(reasons=("malformed",)), False),
        (Wanted(since=1_700_000_000.5), True),
        (Wanted(since=1_700_000_001), False),
        (Wanted(until=1_700_000_000.5), False),
        (Wanted(until=1_700_000_001), True),
        (Wanted(partitions=(1, 2)), True),
        (Wanted(partitions=(1,)), False),
        (Wanted(offsets=(17, 17)), True),
        (Wanted(offsets=(18, 20)), False),
        (Wanted(reasons=("unknown",), offsets=(1, 16)), False),
    ],
)
def test_every_condition_must_hold(wanted, matches):
    assert wanted.matches(read_letter(Record(HEADERS))) is matches


@given(st.sets(st.integers(0, 60)), st.integers(0, 20))
def test_memory_knows_exactly_what_was_done_and_survives_being_kept(done, low):
    memory = Memory(low=low)
    for offset in sorted(done, key=lambda each: each * 7 % 61):
        memory.add([(offset, offset)])
    kept = read_memory(memory.low, memory.note())
    assert kept == memory
    assert [offset in kept for offset in range(70)] == [offset < low or offset in done for offset in range(70)]
    assert not kept.done or kept.done[0][0] > kept.low, "the committed offset is as far as it can be"


def test_what_is_being_sent_is_kept_too():
    memory = Memory(low=3, done=[(5, 6)], pending=[(8, 9), (12, 12)], since_ms=1_700_000_000_000, topics=("events",))
    assert memory.note() == '{"done":"5-6","pending":"8-9,12","since":1700000000000,"topics":["events"]}'
    assert read_memory(3, memory.note()) == memory
    assert read_memory(-1001, None) == Memory()
    assert read_memory(7, "") == Memory(low=7)


def test_too_many_pieces_are_refused_before_anything_is_sent():
    memory = Memory()
    memory.add((offset, offset) for offset in range(100_000, 104_000, 2))
    with pytest.raises(IngestError, match="2000 separate pieces"):
        memory.note()


def test_a_note_of_somebody_else_is_refused():
    with pytest.raises(IngestError, match="choose another --group"):
        read_memory(5, "checkpoint 12")


def test_ranges():
    assert ranges_of([1, 2, 3, 7, 9, 8]) == [(1, 3), (7, 9)]
    assert (parse_offsets("17"), parse_offsets("5-17")) == ((17, 17), (5, 17))
    for text in ("", "5-", "-5", "17-5", "a"):
        with pytest.raises(BadInputError, match="--offsets"):
            parse_offsets(text)


def test_size_counts_key_and_value():
    assert Letter(0, 0, "", "t", 0, b"ab", None, (), 0.0).size == 2
