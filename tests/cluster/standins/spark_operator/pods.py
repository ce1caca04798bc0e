"""What a driver's or executor's pod says about the program in it."""

from collections.abc import Mapping
from typing import Any

from tests.cluster.standins.spark_operator.names import (
    DRIVER_CONTAINER,
    EXECUTOR_CONTAINER,
    OLD_EXECUTOR_CONTAINER,
    PodState,
)

_STATES = {
    "Pending": PodState.PENDING,
    "Running": PodState.RUNNING,
    "Succeeded": PodState.COMPLETED,
    "Failed": PodState.FAILED,
}


def phase(pod: Mapping[str, Any]) -> str:
    """Return the pod's phase."""
    return (pod.get("status") or {}).get("phase") or ""


def driver_state(pod: Mapping[str, Any]) -> PodState:
    """Return the driver's state: its container counts more than its pod, which may have another one that runs on."""
    state = _STATES.get(phase(pod), PodState.UNKNOWN)
    ended = driver_termination(pod)
    if state is PodState.RUNNING and ended:
        return PodState.FAILED if ended.get("exitCode") else PodState.COMPLETED
    if state is PodState.FAILED and ended and not ended.get("exitCode"):
        return PodState.COMPLETED
    return state


def executor_state(pod: Mapping[str, Any]) -> PodState:
    """Return the executor's state."""
    return _STATES.get(phase(pod), PodState.UNKNOWN)


def driver_termination(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how the driver's container ended, or None where nobody says so."""
    return _termination(pod, DRIVER_CONTAINER)


def executor_termination(pod: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how the executor's container ended, or None where nobody says so."""
    return _termination(pod, EXECUTOR_CONTAINER) or _termination(pod, OLD_EXECUTOR_CONTAINER)


def _termination(pod: Mapping[str, Any], container: str) -> dict[str, Any] | None:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        if status.get("name") == container:
            return (status.get("state") or {}).get("terminated")
    return None
