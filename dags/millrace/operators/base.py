"""What the operators and sensors have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

from millrace.errors import MillraceError, OwnedByAnotherError
from millrace.targets import get_target

if TYPE_CHECKING:
    from airflow.sdk import Context

LOG_TAIL_LINES = 40


def owner_of(context: "Context") -> str:
    """Return the name under which a run owns things: the same for each try of each of its tasks."""
    return f"{context['dag'].dag_id}/{context['run_id']}"


@contextmanager
def one_sentence(log: Any) -> Iterator[None]:
    """Turn a MillraceError into a task failure with that sentence, and no traceback behind it."""
    try:
        yield
    except OwnedByAnotherError as error:
        log.error("%s", error)
        raise AirflowFailException(str(error)) from None  # Asking again changes nothing.
    except MillraceError as error:
        log.error("%s", error)
        raise AirflowException(str(error)) from None


def log_tail(log: Any, name: str) -> None:
    """Show the last lines of an application's or job's log in the task's log."""
    try:
        text, _ = get_target().driver_log(name)
    except (MillraceError, OSError) as error:
        log.warning("The log of %s can't be read: %s", name, error)
        return
    lines = text.splitlines()[-LOG_TAIL_LINES:]
    log.info("The last %d lines of %s's log:\n%s", len(lines), name, "\n".join(lines))
