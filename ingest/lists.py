"""What the finite feeds send: five people, simulated orders, and the samples of a contract."""

import json
import random
from collections.abc import Iterator

from ingest import contracts
from ingest.errors import BadInputError
from ingest.progress import iso

PEOPLE = (("Alice", 25), ("Bob", 17), ("Charlie", 30), ("Diana", 15), ("Eve", 22))
START = 1_767_225_600
"""Seconds since 1970 of the first message: 2026-01-01, UTC."""
MOST_ORDERS = 1_000_000
SKUS = tuple(f"P-{1001 + number}" for number in range(26))
"""The products that are ordered; what they are called is none of this feed's business."""
CUSTOMERS = 500


def people(further: str = "") -> Iterator[contracts.Message]:
    """Yield five people, and further ones given as `name=age,name=age`, as messages of the contract `input-topic v1`.

    Raises BadInputError for one that is not written so.
    """
    for number, (name, age) in enumerate([*PEOPLE, *map(_person, further.split(",") if further else ())]):
        yield {
            "schema_version": 1,
            "event_id": f"people/{number}/{name}",
            "event_time": iso(START + number),
            "source": "people",
            "name": name,
            "age": age,
        }


def _person(text: str) -> tuple[str, int]:
    name, _, age = text.strip().rpartition("=")
    if not name or not age.isdecimal() or int(age) > 150:
        raise BadInputError(f"--people: {text!r} isn't a name and an age from 0 to 150, such as Frank=44.")
    return name, int(age)


def orders(count: int, seed: int) -> Iterator[contracts.Message]:
    """Yield simulated orders, one a second, as messages of the contract `orders v1`; the same seed gives the same.

    Raises BadInputError for a count that isn't from 1 to a million.
    """
    if not 1 <= count <= MOST_ORDERS:
        raise BadInputError(f"the count must be from 1 to {MOST_ORDERS}, not {count}.")
    draw = random.Random(seed).random  # noqa: S311 - repeatable on purpose
    for number in range(count):
        yield {
            "schema_version": 1,
            "order_id": f"{seed}-{number}",
            "event_time": iso(START + number),
            "source": "simulated",
            "customer": f"C-{1 + int(draw() * CUSTOMERS)}",
            "sku": SKUS[int(draw() * len(SKUS))],
            "quantity": 1 + int(draw() * draw() * 20),
        }


def samples(topic: str) -> Iterator[contracts.Message]:
    """Yield the messages of `contracts/<topic>/samples.jsonl`, one JSON object a line.

    Raises BadInputError if there is no such file, a line is no object, or there is no message at all.
    """
    path = contracts.contracts_root() / topic / "samples.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadInputError(f"there are no samples of {topic}: {path} can't be read ({error.strerror}).") from None
    found = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            message = json.loads(line)
        except ValueError as error:
            raise BadInputError(f"{path}, line {number}, isn't JSON: {error}.") from None
        if not isinstance(message, dict):
            raise BadInputError(f"{path}, line {number}, isn't a JSON object.")
        found += 1
        yield message
    if not found:
        raise BadInputError(f"{path} holds no message.")
