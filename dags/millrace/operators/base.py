"""What the operators and sensors have in common."""

from collections.abc import Callable, Iterator
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


def labels_of(context: "Context") -> dict[str, str]:
    """Return what a task tells a target of itself: which task of which run it is, and which try."""
    ti = context["ti"]
    return {
        "dag-id": context["dag"].dag_id,
        "run-id": str(context["run_id"]),
        "task-id": ti.task_id,
        "try-number": str(ti.try_number),
    }


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


def application_log_tail(log: Any, name: str) -> None:
    """Show the last lines of an application's driver in the task's log."""
    _log_tail(log, name, lambda: get_target().driver_log(name))


def job_log_tail(log: Any, name: str) -> None:
    """Show the last lines of a job in the task's log."""
    _log_tail(log, name, lambda: get_target().job_log(name))


def _log_tail(log: Any, name: str, read: Callable[[], tuple[str, int]]) -> None:
    try:
        text, _ = read()
    except (MillraceError, OSError) as error:
        log.warning("The log of %s can't be read: %s", name, error)
        return
    lines = text.splitlines()[-LOG_TAIL_LINES:]
    log.info("The last %d lines of %s's log:\n%s", len(lines), name, "\n".join(lines))
