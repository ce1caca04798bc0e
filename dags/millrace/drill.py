"""Failures on purpose, the same each time: by a hash of who tries, not by chance."""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from millrace.errors import MillraceError

log = logging.getLogger(__name__)


def run_step(number: int, context: Mapping[str, Any]) -> dict[str, Any]:
    """Do one step's try, as its task; fails the task as often as the run's parameter says."""
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        rate = float(context["params"]["failure_rate"])
        return attempt(context["run_id"], f"step {number}", context["ti"].try_number, rate)


def luck(run_id: str, task: str, try_number: int) -> float:
    """Return a number from 0 to below 1 that is always the same for the same try, and spread evenly over all tries."""
    digest = hashlib.sha256(f"{run_id}/{task}/{try_number}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def attempt(run_id: str, task: str, try_number: int, failure_rate: float) -> dict[str, Any]:
    """Return which try it was; raises MillraceError if this try is one of the share that fails."""
    drawn = luck(run_id, task, try_number)
    if drawn < failure_rate:
        raise MillraceError(
            f"Failed on purpose: try {try_number} of {task} drew {drawn:.3f}, below the failure rate {failure_rate:g}; "
            "lower the parameter failure_rate to see it succeed."
        )
    log.info("Try %d of %s drew %.3f, not below the failure rate %g", try_number, task, drawn, failure_rate)
    return {"task": task, "tries": try_number, "drew": round(drawn, 3)}
