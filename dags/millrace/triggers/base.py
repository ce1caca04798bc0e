"""A trigger that asks the target again and again, off the triggerer's event loop."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from millrace.errors import MillraceError, TemporaryError

SUCCESS = "success"
ERROR = "error"
IDLE = "idle"

SETTLE_SECONDS = 2.0
"""How long a trigger waits before its event, at least: the executor's report that the task was deferred must be there
first. If it comes after the task is queued again, the scheduler takes it for the end of a task that nobody ran, and
fails it (`ti_requeued` in Airflow's `SchedulerJobRunner.process_executor_events`)."""


class PollingTrigger(BaseTrigger):
    """Calls `poll` every `poll_interval` seconds in a thread, until it returns an event's payload.

    A payload is a dictionary with `status` (`success`, `error` or `idle`) and `message`. After `deadline`
    (seconds since 1970; None means never) the event is an error. A TemporaryError ends the wait only after its
    patience. Killing the task does not touch what it
    waits for: `stop_pipeline` and the run's failure callback end that.
    """

    def __init__(self, *, poll_interval: float = 1.0, deadline: float | None = None) -> None:
        super().__init__()
        self.poll_interval = poll_interval
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make the same trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""

    @abstractmethod
    def poll(self) -> dict[str, Any] | None:
        """Look once; return an event's payload, or None to look again. May block; runs in a thread."""

    @abstractmethod
    def waiting_for(self) -> str:
        """Say what is still missing, for the message at the deadline."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until there is something to say; yields exactly one event."""
        began = answered = time.monotonic()
        while True:
            try:
                payload = await asyncio.to_thread(self.poll)
                answered = time.monotonic()
            except TemporaryError as error:
                self.log.warning("%s", error)
                given_up = time.monotonic() - answered >= error.patience
                payload = {"status": ERROR, "message": str(error)} if given_up else None
            except MillraceError as error:
                payload = {"status": ERROR, "message": str(error)}
            if payload is None and self.deadline is not None and time.time() >= self.deadline:
                payload = {
                    "status": ERROR,
                    "message": f"Gave up after the time allowed: {self.waiting_for()}.",
                }
            if payload is not None:
                await asyncio.sleep(max(0.0, began + SETTLE_SECONDS - time.monotonic()))
                yield TriggerEvent(payload)
                return
            await asyncio.sleep(self.poll_interval)
