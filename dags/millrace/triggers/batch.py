"""Waits for an application that runs to its end."""

from typing import Any

from millrace.targets import get_target
from millrace.targets.base import ApplicationState
from millrace.triggers.base import ERROR, SUCCESS, PollingTrigger
from millrace.triggers.stream import application_problem, describe

STOPPED = "stopped"
"""How a target's message begins where an application has ended because somebody asked it to."""


class ApplicationCompletedTrigger(PollingTrigger):
    """Fires when an application of `owner` has COMPLETED its work; one that ended otherwise is an error."""

    def __init__(
        self, *, application: str, owner: str, poll_interval: float = 1.0, deadline: float | None = None
    ) -> None:
        super().__init__(poll_interval=poll_interval, deadline=deadline)
        self.application = application
        self.owner = owner
        self._seen = ""

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "application": self.application,
            "owner": self.owner,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
        }

    def waiting_for(self) -> str:
        """Say what is missing."""
        return f"{self.application} has not completed{self._seen}; see its driver's log"

    def poll(self) -> dict[str, Any] | None:
        """Look at the state."""
        status = get_target().application_status(self.application)
        self._seen = f" and is {describe(status)}"
        # One that is stopped between two tries is COMPLETED as well, and its work is not done.
        done = status.state is ApplicationState.COMPLETED and not status.message.startswith(STOPPED)
        if done and status.owner == self.owner:
            return {"status": SUCCESS, "message": f"{self.application} has completed"}
        if problem := application_problem(status, self.owner):
            return {"status": ERROR, "message": problem}
        return None
