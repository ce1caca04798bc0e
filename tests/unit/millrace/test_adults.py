"""What kafka_spark_pipeline makes of the records of its two topics."""

import json

import pytest

from millrace.adults import by_key, difference

ALICE, BOB = ("Alice", 25), ("Bob", 17)


def record(key: str | None, name: object, age: object) -> tuple[bytes | None, bytes | None]:
    return key.encode() if key is not None else None, json.dumps({"name": name, "age": age}).encode()


def test_the_last_record_of_a_key_counts_and_what_is_no_person_does_not() -> None:
    good = [record("a", "Alias", 1), record("b", *BOB), record("a", *ALICE)]
    bad = [(b"c", b"not JSON"), (b"c", None), (b"c", b"[]"), record("c", "Carl", "old"), record("c", "Carl", 151)]
    assert by_key([*good, *bad, record(None, "Nobody", 3)]) == {"a": ALICE, "b": BOB}


@pytest.mark.parametrize(
    ("expected", "found", "words"),
    [
        ({"a": ALICE}, {"a": ALICE}, ""),
        ({"a": ALICE}, {}, "Alice is missing"),
        ({"a": ALICE}, {"a": ALICE, "b": BOB}, "Bob should not be there"),
        ({"a": ALICE}, {"a": ("Alice", 24)}, "('Alice', 25) has become ('Alice', 24)"),
        ({}, {}, "Nobody was sent who is old enough"),
    ],
)
def test_every_difference_is_named(expected: dict, found: dict, words: str) -> None:
    problem = difference(expected, found)
    assert words in problem
    assert bool(problem) == bool(words)
