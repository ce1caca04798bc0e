"""Tasks that look into a checkpoint, or take it back."""

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from millrace import storage
from millrace.operators.base import application_log_tail, labels_of, one_sentence, owner_of
from millrace.operators.stream import KILLED, StartApplicationOperator
from millrace.recovery import Request, read_result, start_tool
from millrace.targets import get_target
from millrace.triggers.batch import ApplicationCompletedTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class StartAgainOperator(StartApplicationOperator):
    """Starts an app that a parameter names; `more_arguments` may come from an earlier task."""

    template_fields = (*StartApplicationOperator.template_fields, "application", "query", "more_arguments")

    def __init__(self, *, more_arguments: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.more_arguments = more_arguments

    def execute(self, context: "Context") -> None:
        """Start (or find) the application, then wait in the triggerer."""
        self.arguments = [*self.arguments, *self.more_arguments]
        super().execute(context)


class RecoveryOperator(BaseOperator):
    """Runs one action of the recovery tool and shows what it says; fails where the tool's status is not 0.

    `arguments` and `overrides` may come from an earlier task. Waits in the triggerer. A retry finds the tool running. A
    rewind that was cut off is finished by the next try.
    """

    template_fields = ("application", "arguments", "overrides")

    def __init__(
        self,
        *,
        action: str,
        application: str,
        arguments: Any = (),
        overrides: Any = (),
        timeout: float = 1800.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.action = action
        self.application = application
        self.arguments = arguments
        self.overrides = overrides
        self.timeout = timeout

    def execute(self, context: "Context") -> None:
        """Start (or find) the tool, then wait in the triggerer."""
        request, owner = self._request(context), self._owner(context)
        with one_sentence(self.log):
            status = start_tool(request, owner, labels_of(context))
        self.log.info("%s runs as %s; its log: %s", self.action, request.name, status.log)
        self.defer(
            trigger=ApplicationCompletedTrigger(
                application=request.name, owner=owner, deadline=time.time() + self.timeout
            ),
            method_name="on_event",
        )

    def on_kill(self) -> None:
        """Leave the tool alone: it ends by itself."""
        self.log.warning(KILLED, f"{self.action} of {self.application}")

    def on_event(self, context: "Context", event: dict[str, Any]) -> dict[str, Any]:
        """Show what the tool said, whatever its exit status."""
        request = self._request(context)
        status = get_target().application_status(request.name)
        if status.owner != self._owner(context) or not status.state.ended:
            application_log_tail(self.log, request.name)
            raise AirflowException(event["message"])
        try:
            with one_sentence(self.log):
                result = read_result(request, status)
        except AirflowException:
            application_log_tail(self.log, request.name)
            raise
        self.log.info("%s", result.text or result.error)
        if result.status:
            # Asking again would give the same.
            raise AirflowFailException(result.error or result.text)
        return {"result": result.values, "output": storage.url(*request.output)}

    def _owner(self, context: "Context") -> str:
        # Not the run alone, whose own stream may run under the same name, before or after this.
        return f"{owner_of(context)}/{self.task_id}"

    def _request(self, context: "Context") -> Request:
        output = ("reports", storage.run_folder(str(context["run_id"])), f"{self.task_id}.json")
        return Request(self.application, self.action, tuple(self.arguments), tuple(self.overrides), output)
