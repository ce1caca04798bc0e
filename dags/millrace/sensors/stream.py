"""Waits until a stream has read all of a job's records and closed all of its windows."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from millrace import kafka
from millrace.operators.base import application_log_tail, job_log_tail, one_sentence, owner_of
from millrace.operators.stream import repeat_heartbeats
from millrace.targets import get_target
from millrace.triggers.base import IDLE, SUCCESS
from millrace.triggers.stream import CaughtUpTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context


class CaughtUpSensor(BaseOperator):
    """Ends when the job has SUCCEEDED and the queries' own progress shows that nothing is left to do.

    A stream without windows is given without `window` and `slide`: it is caught up when all is read.

    Always deferred: it takes no worker while it waits. It has no timeout of its own, because how long a
    stream needs depends on its input; the run's timeout bounds it.
    """

    def __init__(
        self,
        *,
        application: str,
        query: str,
        job: str,
        topic: str,
        window: timedelta | None = None,
        slide: timedelta | None = None,
        poll_interval: float = 1.0,
        kafka_conn_id: str = kafka.CONNECTION_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.application = application
        self.query = query
        self.job = job
        self.topic = topic
        self.window = window
        self.slide = slide
        self.poll_interval = poll_interval
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: "Context") -> None:
        """Wait in the triggerer."""
        self.defer(
            trigger=CaughtUpTrigger(
                application=self.application,
                query=self.query,
                owner=owner_of(context),
                job=self.job,
                topic=self.topic,
                window_seconds=int(self.window.total_seconds()) if self.window else None,
                slide_seconds=int(self.slide.total_seconds()) if self.slide else None,
                run_id=str(context["run_id"]),
                poll_interval=self.poll_interval,
            ),
            method_name="on_event",
        )

    def on_event(self, context: "Context", event: dict[str, Any]) -> dict[str, Any]:
        """End the task as the trigger says; return the job's summary."""
        if event["status"] == IDLE:
            self.log.info("The stream stands still: %s", event["message"])
            with one_sentence(self.log):
                repeat_heartbeats(self.log, self.kafka_conn_id, self.topic, self.job)
            self.execute(context)
        if event["status"] != SUCCESS:
            job_log_tail(self.log, self.job)
            application_log_tail(self.log, self.application)
            raise AirflowException(event["message"])
        job = get_target().job_status(self.job)
        status = get_target().application_status(self.application)
        self.log.info("Caught up: %s. The driver's log: %s", event["message"], status.log)
        return {"job": job.result, "tries": status.tries}
