"""What `kafka_spark_pipeline` does with its output: reads it back, shows it, and compares it with the input."""

import json
import logging
from collections.abc import Iterable, Mapping
from typing import Any

log = logging.getLogger(__name__)

Person = tuple[str, int]
"""Name and age."""
SHOWN = 50
"""Rows of a table that the log shows at most."""


def show_and_verify(input_topic: str, output_topic: str, minimum_age: int) -> dict[str, Any]:
    """Log who was kept and who was dropped, and compare the output topic with what the input topic asks for.

    Returns kept and dropped (names, sorted) and records (in the output topic). Raises AirflowFailException if they
    differ: trying again gives the same.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import kafka, reading, records
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        config = kafka.connection_config()
        sent = by_key((record.key(), record.value()) for record in records.read_topic(config, input_topic))
        output = [(record.key(), record.value()) for record in records.read_topic(config, output_topic)]
    found = by_key(output)
    kept = {key: person for key, person in sent.items() if person[1] >= minimum_age}
    dropped = {key: person for key, person in sent.items() if key not in kept}
    for what, people in ((f"kept, in {output_topic}", found), (f"dropped, younger than {minimum_age}", dropped)):
        rows = [{"name": name, "age": age} for name, age in sorted(people.values())]
        log.info("%d people %s:\n%s", len(rows), what, reading.as_text(rows[:SHOWN]))
    if problem := difference(kept, found):
        log.error("%s", problem)
        raise AirflowFailException(problem)
    return {"kept": _names(kept), "dropped": _names(dropped), "records": len(output)}


def by_key(records: Iterable[tuple[bytes | None, bytes | None]]) -> dict[str, Person]:
    """Return the last name and age of each key; records that are no person (dead letters elsewhere) are left out."""
    people: dict[str, Person] = {}
    for key, value in records:
        try:
            message = json.loads(value or b"")
            name, age = message["name"], message["age"]
        except (ValueError, KeyError, TypeError):
            continue
        if key is not None and isinstance(name, str) and isinstance(age, int) and 0 <= age <= 150:
            people[key.decode(errors="replace")] = (name, age)
    return people


def difference(expected: Mapping[str, Person], found: Mapping[str, Person]) -> str:
    """Say who is missing, wrong or too much in the output, or return an empty string."""
    problems = [f"{expected[key][0]} is missing" for key in expected.keys() - found.keys()]
    problems += [f"{found[key][0]} should not be there" for key in found.keys() - expected.keys()]
    changed = (key for key in expected.keys() & found.keys() if expected[key] != found[key])
    problems += [f"{expected[key]} has become {found[key]}" for key in changed]
    if not expected and not problems:
        return "Nobody was sent who is old enough, so there is nothing to compare: send some people."
    return f"The output differs from the input: {'; '.join(sorted(problems)[:10])}." if problems else ""


def _names(people: Mapping[str, Person]) -> list[str]:
    return sorted(name for name, _ in people.values())
