"""What a Pod says about the program in it."""

from collections.abc import Mapping
from typing import Any

ENDED_PHASES = ("Succeeded", "Failed")
_QUIET = ("ContainerCreating", "PodInitializing", "Completed")


def is_living(pod: Mapping[str, Any]) -> bool:
    """True if the pod's program runs, may run, or may still run on a node that doesn't answer."""
    return pod.get("status", {}).get("phase") not in ENDED_PHASES


def newest(pods: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the pod that counts: of the living the youngest, else of all."""
    return max(pods, key=lambda pod: (is_living(pod), pod["metadata"].get("creationTimestamp") or ""), default=None)


def problem(pod: Mapping[str, Any]) -> str:
    """Say why a pod doesn't start or run, or return an empty string."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    for container in _containers(status):
        waiting = container.get("state", {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in _QUIET:
            return f"pod {name} waits ({shorten(': '.join(_texts(waiting)))})"
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"pod {name} finds no node ({shorten(condition.get('message') or condition.get('reason') or '')})"
    if pod["metadata"].get("deletionTimestamp"):
        return f"pod {name} is being deleted"
    return ""


def termination(pod: Mapping[str, Any]) -> tuple[int | None, str, str]:
    """Return exit code, reason (such as `OOMKilled`) and message of the program that has ended."""
    status = pod.get("status", {})
    for container in status.get("containerStatuses") or ():
        if ended := container.get("state", {}).get("terminated"):
            return ended.get("exitCode"), ended.get("reason") or "", ended.get("message") or ""
    return None, status.get("reason") or "", status.get("message") or ""


def failure(pod: Mapping[str, Any]) -> str:
    """Say how the program of a pod failed: its own last words if it left any, else how it was ended."""
    code, reason, message = termination(pod)
    how = "" if code is None else f"exit code {code}"
    if reason and reason != "Error":
        how = f"{reason}, {how}" if how else reason
    last = message.strip().splitlines()[-1] if message.strip() else ""
    return ": ".join(filter(None, (how, shorten(last)))) or "it does not say why"


def shorten(text: str, length: int = 600) -> str:
    """Return a text on one line; of a long one the beginning and the end, where the reasons stand."""
    text = " ".join(text.split())
    half = length // 2
    return text if len(text) <= length else f"{text[:half]} ... {text[-half:]}"


def _containers(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _texts(waiting: Mapping[str, Any]) -> list[str]:
    return [waiting[key] for key in ("reason", "message") if waiting.get(key)]
