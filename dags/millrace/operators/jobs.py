"""Runs a job to its end."""

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from millrace.operators.base import job_log_tail, owner_of
from millrace.operators.stream import StartJobOperator
from millrace.targets import get_target
from millrace.triggers.base import SUCCESS
from millrace.triggers.jobs import JobEndedTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class RunJobOperator(StartJobOperator):
    """Starts a job and ends when it has SUCCEEDED; waits in the triggerer. Returns what the job wrote as its status.

    A retry finds the job running and goes on waiting; one that has ended is run again. `more_arguments` may come
    from an earlier task.
    """

    template_fields = (*StartJobOperator.template_fields, "more_arguments")

    def __init__(self, *, more_arguments: Any = (), timeout: float = 3600.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.more_arguments = more_arguments
        self.timeout = timeout

    def execute(self, context: "Context") -> dict[str, Any]:
        """Start (or find) the job, then wait in the triggerer."""
        self.arguments = [*self.arguments, *self.more_arguments]
        super().execute(context)
        trigger = JobEndedTrigger(job=self.job.name, owner=owner_of(context), deadline=time.time() + self.timeout)
        self.defer(trigger=trigger, method_name="on_event")
        return {}  # not reached: deferring ends this call

    def on_event(self, context: "Context", event: dict[str, Any]) -> dict[str, Any]:
        """End the task as the trigger says."""
        if event["status"] != SUCCESS:
            job_log_tail(self.log, self.job.name)
            raise AirflowException(event["message"])
        result = get_target().job_status(self.job.name).result or {}
        self.log.info("%s: %s", event["message"], result)
        return result
