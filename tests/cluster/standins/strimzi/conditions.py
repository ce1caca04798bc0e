"""Conditions of a status, as Strimzi writes them."""

from datetime import UTC, datetime
from typing import Any


def ready() -> list[dict[str, Any]]:
    """The resource is as it says."""
    return [_condition("Ready")]


def not_ready(reason: str, message: str) -> list[dict[str, Any]]:
    """It isn't."""
    return [_condition("NotReady", reason=reason, message=message)]


def warning(message: str) -> dict[str, Any]:
    """Something about it is not done, and the rest is."""
    return _condition("Warning", reason="StandIn", message=message)


def status(resource: dict[str, Any], conditions: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Return the status of a resource; a condition that isn't new keeps its time."""
    before = (resource.get("status") or {}).get("conditions") or []
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
    for each in conditions:
        same = [old for old in before if {**old, "lastTransitionTime": ""} == {**each, "lastTransitionTime": ""}]
        each["lastTransitionTime"] = same[0]["lastTransitionTime"] if same else now
    return {"conditions": conditions, "observedGeneration": resource["metadata"]["generation"], **fields}


def is_ready(resource: dict[str, Any], kind: str = "Ready") -> bool:
    """Whether a condition of any resource is true."""
    found = (resource.get("status") or {}).get("conditions") or []
    return any(each["type"] == kind and each["status"] == "True" for each in found)


def _condition(kind: str, **fields: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", **fields}
