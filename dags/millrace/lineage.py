"""Reads the lineage that OpenLineage left in a topic: which tasks made a table, of what, and what made that.

    python -m millrace.lineage delta://event_hours --bootstrap-servers 127.0.0.1:19092

A dataset is named by its namespace and its name, as in `millrace.assets`: `delta://event_hours`, `kafka://events`.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace import records
from millrace.errors import MillraceError

TOPIC = "lineage"
COMPLETE = "COMPLETE"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """One task's newest run that has read and written something."""

    job: str
    """`<dag id>.<task id>`."""
    run: str
    time: str
    """When it ended, in ISO 8601."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class Lineage:
    """All that a topic tells."""

    steps: dict[str, Step] = field(default_factory=dict)
    """By job."""
    bad: list[str] = field(default_factory=list)
    """Records that are no event of OpenLineage: where, and why."""

    def upstream(self, dataset: str) -> list[Step]:
        """Return the steps that a dataset comes from, the nearest first; each once, also in a circle."""
        found: list[Step] = []
        wanted, seen = [dataset], {dataset}
        while wanted:
            current = wanted.pop(0)
            for step in sorted(self.steps.values(), key=lambda each: each.job):
                if current in step.outputs and step not in found:
                    found.append(step)
                    fresh = [name for name in step.inputs if name not in seen]
                    wanted += fresh
                    seen.update(fresh)
        return found


def read(config: Mapping[str, Any], topic: str = TOPIC) -> Lineage:
    """Return the lineage that a topic holds now. Raises MillraceError if the broker doesn't answer."""
    return collect(records.read_topic(config, topic))


def collect(found: Iterable[Any]) -> Lineage:
    """Return the lineage of Kafka records. One that can't be read is noted, and stops nobody."""
    lineage = Lineage()
    for record in found:
        try:
            step = parse(record.value())
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            where = f"partition {record.partition()}, offset {record.offset()}"
            lineage.bad.append(f"{where}: {type(error).__name__}: {error}")
            log.warning("A record of the lineage is no event of OpenLineage (%s): %s", where, error)
            continue
        if step is None:
            continue
        known = lineage.steps.get(step.job)
        if known is None or known.time <= step.time:
            lineage.steps[step.job] = step
    return lineage


def parse(value: bytes | None) -> Step | None:
    """Return the step of an event; None for one that tells of nothing read or written (a start, a whole DAG run).

    Raises ValueError, TypeError, KeyError or AttributeError for what is no event.
    """
    if value is None:
        raise ValueError("it has no value")
    event = json.loads(value)
    kind, job, time = event["eventType"], event["job"]["name"], event["eventTime"]
    inputs, outputs = _names(event.get("inputs")), _names(event.get("outputs"))
    if not (isinstance(job, str) and isinstance(time, str)):
        raise TypeError("its job and eventTime are no text")
    if kind != COMPLETE or not (inputs or outputs):
        return None
    return Step(job, str(event["run"]["runId"]), time, inputs, outputs)


def _names(datasets: Sequence[Mapping[str, str]] | None) -> tuple[str, ...]:
    return tuple(sorted({f"{each['namespace']}://{each['name']}" for each in datasets or ()}))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print where a dataset comes from; 1 if nothing is known of it."""
    parser = argparse.ArgumentParser(prog="python -m millrace.lineage", description="Where does a dataset come from?")
    parser.add_argument("dataset", help="such as delta://event_hours")
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:19092", help="the broker, by default make up's")
    parser.add_argument("--topic", default=TOPIC)
    given = parser.parse_args(arguments)
    try:
        lineage = read({"bootstrap.servers": given.bootstrap_servers}, given.topic)
    except MillraceError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for step in lineage.upstream(given.dataset):
        made, of = ", ".join(step.outputs), ", ".join(step.inputs) or "nothing that it names"
        sys.stdout.write(f"{made}\n  by {step.job} at {step.time}\n  of {of}\n")
    if lineage.bad:
        sys.stderr.write(f"{len(lineage.bad)} records are no events of OpenLineage, the first at {lineage.bad[0]}\n")
    if not lineage.upstream(given.dataset):
        sys.stderr.write(f"Nothing in {given.topic} says what made {given.dataset}: is lineage switched on?\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
