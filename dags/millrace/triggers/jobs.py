"""Waits for a job to end."""

from typing import Any

from millrace.targets import get_target
from millrace.targets.base import JobState
from millrace.triggers.base import ERROR, SUCCESS, PollingTrigger


class JobEndedTrigger(PollingTrigger):
    """Fires when a job of `owner` has SUCCEEDED; one that ended otherwise is an error."""

    def __init__(self, *, job: str, owner: str, poll_interval: float = 1.0, deadline: float | None = None) -> None:
        super().__init__(poll_interval=poll_interval, deadline=deadline)
        self.job = job
        self.owner = owner

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "job": self.job,
            "owner": self.owner,
            "poll_interval": self.poll_interval,
            "deadline": self.deadline,
        }

    def waiting_for(self) -> str:
        """Say what is missing."""
        return f"{self.job} has not ended; see its log"

    def poll(self) -> dict[str, Any] | None:
        """Look at the state."""
        status = get_target().job_status(self.job)
        if status.owner != self.owner or status.state is JobState.NEW:
            return {"status": ERROR, "message": f"{self.job} is run by {status.owner or 'nobody'}, not by this run."}
        if not status.state.ended:
            return None
        if status.state is JobState.SUCCEEDED:
            return {"status": SUCCESS, "message": f"{self.job} has succeeded"}
        return {"status": ERROR, "message": f"{self.job} has ended ({status.state}): {status.message or 'see its log'}"}
