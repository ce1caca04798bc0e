"""Runs an application without a stream to its end."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from millrace.errors import MillraceError
from millrace.operators.base import application_log_tail, labels_of, one_sentence, owner_of
from millrace.operators.stream import KILLED
from millrace.targets import get_target
from millrace.triggers.base import SUCCESS
from millrace.triggers.batch import ApplicationCompletedTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

STOP_TIMEOUT = 1.0
"""Seconds between asking a batch application to end and force: it has no batch to finish, and looks for no request."""


class RunApplicationOperator(BaseOperator):
    """Starts a Spark application that ends by itself, and ends when it has COMPLETED.

    Waits in the triggerer. A retry finds the application running and goes on waiting. If it has ended meanwhile, it is
    run again, however it ended: a task that is cleared must do its work anew, so doing that work twice must change
    nothing. After `timeout` seconds the application is stopped, and the task fails.
    """

    template_fields = ("manifest", "arguments")

    def __init__(
        self,
        *,
        manifest: str,
        application: str,
        arguments: Sequence[str] = (),
        timeout: float = 1800.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.manifest = manifest
        self.application = application
        self.arguments = list(arguments)
        self.timeout = timeout

    def execute(self, context: "Context") -> None:
        """Start (or find) the application, then wait in the triggerer."""
        owner = owner_of(context)
        with one_sentence(self.log):
            status = get_target().start_application(Path(self.manifest), owner, self.arguments, labels_of(context))
        if status.name != self.application:
            raise AirflowFailException(f"{self.manifest} describes {status.name}, not {self.application}.")
        self.log.info("%s is %s; its driver's log: %s", status.name, status.state or "new", status.log)
        self.defer(
            trigger=ApplicationCompletedTrigger(
                application=self.application, owner=owner, deadline=time.time() + self.timeout
            ),
            method_name="on_event",
        )

    def on_kill(self) -> None:
        """Leave the application alone, and say what becomes of it (docs/decisions/0007)."""
        self.log.warning(KILLED, self.application)

    def on_event(self, context: "Context", event: dict[str, Any]) -> dict[str, Any]:
        """End the task as the trigger says."""
        target = get_target()
        if event["status"] != SUCCESS:
            application_log_tail(self.log, self.application)
            self._stop(owner_of(context))
            raise AirflowException(event["message"])
        status = target.application_status(self.application)
        self.log.info("%s. Its driver's log: %s", event["message"], status.log)
        return {"name": status.name, "tries": status.tries, "log": status.log}

    def _stop(self, owner: str) -> None:
        """End what still runs, so that a retry begins anew; what another run has started is left alone."""
        try:
            if get_target().application_status(self.application).owner == owner:
                get_target().stop_application(self.application, STOP_TIMEOUT, owner)
        except MillraceError as error:
            self.log.warning("%s may still run: %s", self.application, error)
