"""The Python tasks of `stream_recovery`."""

import logging
from collections.abc import Mapping
from typing import Any

from millrace.errors import MillraceError

STOP_TIMEOUT = 120.0

log = logging.getLogger(__name__)


def rewind_arguments(params: Mapping[str, Any]) -> list[str]:
    """Return what the tool is told of a rewind. Raises MillraceError if no goal is given, or two are."""
    batch, offsets = params["to_batch"], str(params["to_offsets"] or "").split()
    if (batch is None) == (not offsets):
        raise MillraceError("A rewind needs one goal: give `to_batch` or `to_offsets`.")
    goal = ["--to-offsets", *offsets] if offsets else ["--to-batch", str(batch)]
    query = ["--query", params["query"]] if params["query"] else []
    flags = [f"--{name.replace('_', '-')}" for name in ("dry_run", "keep_table") if params[name]]
    return [*query, *flags, *goal]


def replay_arguments(params: Mapping[str, Any]) -> list[str]:
    """Return what the feed is told of a replay. Raises MillraceError if no topic is given."""
    if not params["dead_letter_topic"]:
        raise MillraceError("A replay needs the topic of the dead letters: give `dead_letter_topic`.")
    reasons = [
        part for text in str(params["reasons"] or "").splitlines() if text.strip() for part in ("--reason", text)
    ]
    flags = ["--dry-run"] if params["dry_run"] else []
    return [f"--topic={params['dead_letter_topic']}", *reasons, *flags]


def stop_first(params: Mapping[str, Any]) -> str:
    """Stop the app if that is asked for, whoever started it; return what became of it. Raises MillraceError."""
    from millrace.targets import get_target
    from millrace.targets.base import ApplicationState

    target, name = get_target(), params["application"]
    status = target.application_status(name)
    if not params["stop_running"] or status.state.ended:
        return f"{name} is left as it is: {status.state or 'never started'}"
    log.info("Stopping %s, which %s has started", name, status.owner)
    after = target.stop_application(name, STOP_TIMEOUT)
    if after.state is ApplicationState.FAILED:
        log.warning("%s did not end well: %s", name, after.message)
    return f"{name} is {after.state}: {after.message}"


def prepare_action(params: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the arguments of what was asked for, by what takes them.

    Raises MillraceError for what makes no sense, before anything is done.
    """
    from millrace.recovery import manifest_of

    manifest_of(params["application"])
    settings = str(params["settings"] or "").split()
    return {
        "look": ["--query", params["query"]] if params["query"] else [],
        "rewind": rewind_arguments(params) if params["action"] == "rewind" else [],
        "replay": replay_arguments(params) if params["action"] == "replay" else [],
        "settings": settings,
        "start": [part for each in settings for part in ("--set", each)],
    }


CHOICES = {
    "inspect": "inspect_checkpoint",
    "check": "check_checkpoint",
    "rewind": "rewind_checkpoint",
    "replay": "replay_dead_letters",
}
"""The task of each action."""
