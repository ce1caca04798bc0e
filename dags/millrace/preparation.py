"""Brings topics, checkpoints and tables to where a run can start: anew, or where the last one ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace import kafka, storage
from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.targets import get_target
from millrace.targets.base import ApplicationStatus, JobStatus

RESTART = "restart"
RESUME = "resume"
STOP_TIMEOUT = 120.0


@dataclass(frozen=True)
class Resources:
    """What belongs to one pipeline."""

    contract: Path
    """The file that describes all topics."""
    topics: tuple[str, ...]
    """The pipeline's own topics; the first is its input."""
    application: str
    job: str
    tables: tuple[str, ...]


def prepare(
    resources: Resources, *, mode: str, input_range: Mapping[str, str], owner: str, config: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Prepare a run; return what was deleted and created.

    Raises MillraceError if the mode is unknown, `resume` can't continue what is there, or Kafka or the
    storage refuses; OwnedByAnotherError if another run still uses these resources.
    """
    topics = kafka.load_topics(resources.contract)
    unknown = [name for name in resources.topics if name not in topics]
    if unknown:
        raise MillraceError(f"{resources.contract} does not describe {', '.join(unknown)}: add them there.")
    if mode not in (RESTART, RESUME):
        raise MillraceError(f"The mode is {mode!r}, it must be `{RESTART}` or `{RESUME}`.")
    _end_users(resources, owner)
    deleted: list[str] = []
    if mode == RESTART:
        # Recorded data first: if this is cut short, what is left can't be mistaken for the start of
        # something.
        deleted += _delete_outputs(resources)
        deleted += kafka.delete_topics(config, resources.topics)
    else:
        _check_resumable(resources, input_range, config)
    created = kafka.create_topics(config, list(topics.values()))
    storage.write_json(dict(input_range), *_range_file(resources))
    return {"deleted": deleted, "created": created}


def _end_users(resources: Resources, owner: str) -> None:
    """Stop what an earlier try of this run left running, and refuse to touch what another run uses."""
    target = get_target()
    users: list[ApplicationStatus | JobStatus] = [
        target.application_status(resources.application),
        target.job_status(resources.job),
    ]
    for status in users:
        if not status.state.ended and status.owner != owner:
            raise OwnedByAnotherError(
                f"{status.name} is still run by {status.owner}: wait for that run to end, or mark it failed."
            )
    target.stop_job(resources.job, STOP_TIMEOUT, owner=users[1].owner)
    target.stop_application(resources.application, STOP_TIMEOUT, owner=users[0].owner)


def _delete_outputs(resources: Resources) -> list[str]:
    places = [_range_file(resources), ("checkpoints", resources.application)]
    places += [("tables", table) for table in resources.tables]
    return ["/".join(place) for place in places if storage.delete_tree(*place)]


def _check_resumable(resources: Resources, input_range: Mapping[str, str], config: Mapping[str, Any]) -> None:
    topic = resources.topics[0]
    begun = storage.read_json(*_range_file(resources))
    filled = sum(kafka.end_offsets(config, topic).values()) > 0
    if not filled and storage.exists("checkpoints", resources.application):
        raise MillraceError(
            f"There is a checkpoint of {resources.application}, but topic {topic} is empty, so it can't "
            "be resumed: "
            f"run with mode `{RESTART}`."
        )
    if filled and begun != dict(input_range):
        there = ", ".join(f"{key} {value}" for key, value in (begun or {"an unknown range": ""}).items())
        raise MillraceError(
            f"Topic {topic} holds {there}; that can only be resumed with the same range: "
            f"ask for that, or run with mode `{RESTART}`."
        )


def _range_file(resources: Resources) -> tuple[str, ...]:
    return ("ranges", f"{resources.topics[0]}.json")
