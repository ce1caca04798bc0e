"""A SparkApplication as an object in the cluster: how one is made, and what its status says."""

import copy
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from millrace.targets import pods
from millrace.targets.base import ApplicationState, ApplicationStatus
from millrace.targets.names import OWNER, PREFIX, RUN_VARIABLE, annotation, object_labels

STOPPED = f"{PREFIX}/stopped"
"""Annotation: why a target suspended the application, in one sentence."""
BY_FORCE = f"{PREFIX}/stopped-by-force"
"""Annotation, `true`: it was suspended because it did not finish its batch in time."""
METRICS_PORT = "metrics"
"""Name of the driver's port that serves `/metrics` and `/progress`."""

_STILL_ENDING = {
    ApplicationState.COMPLETED: ApplicationState.SUCCEEDING,
    ApplicationState.FAILED: ApplicationState.FAILING,
    ApplicationState.SUSPENDED: ApplicationState.SUSPENDING,
}
"""What a state amounts to while a driver's pod is still there: the operator doesn't always wait for its end."""

_REASONS = (
    re.compile(r"Message: (.+?)\. Received status:", re.DOTALL),
    re.compile(r'^Exception in thread "[^"]*" (.+)$', re.MULTILINE),
)


def driver_labels(name: str) -> dict[str, str]:
    """Return the labels of an application's driver pods."""
    return {"sparkoperator.k8s.io/app-name": name, "spark-role": "driver"}


def build(
    document: Mapping[str, Any],
    *,
    namespace: str,
    owner: str,
    image: str | None,
    arguments: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a manifest's SparkApplication as it is made in the cluster: with owner, labels, image and arguments.

    The driver's pod gets owner and labels too, so that it can be told whose it is when the application is gone.
    """
    result: dict[str, Any] = copy.deepcopy(dict(document))
    spec = result["spec"]
    result["metadata"]["namespace"] = namespace
    if image is not None:
        spec["image"] = image
    if arguments:
        spec["arguments"] = [*(spec.get("arguments") or ()), *arguments]
    own = object_labels(labels or {})
    for holder in (result["metadata"], spec.setdefault("driver", {})):
        holder["annotations"] = {**(holder.get("annotations") or {}), OWNER: owner}
        holder["labels"] = {**(holder.get("labels") or {}), **own}
    driver = spec["driver"]
    driver["env"] = [*(driver.get("env") or ()), {"name": RUN_VARIABLE, "value": owner}]
    return result


def status_of(
    name: str, namespace: str, found: Mapping[str, Any] | None, drivers: list[dict[str, Any]]
) -> ApplicationStatus:
    """Return what the object (None: there is none) and the pods of its drivers say together."""
    pod = pods.newest(drivers)
    living = pod if pod and pods.is_living(pod) else None
    if found is None:
        return _without_object(name, namespace, living)
    status = found.get("status") or {}
    state, message = _state(found, living)
    return ApplicationStatus(
        name=name,
        state=state,
        owner=annotation(found, OWNER),
        # A submission that fails never becomes an execution; the operator counts both for as long as it tries.
        tries=max(status.get("executionAttempts") or 0, status.get("submissionAttempts") or 0),
        message=message,
        metrics_url=metrics_url(found, living) if state is ApplicationState.RUNNING else None,
        started_at=timestamp(status.get("lastSubmissionAttemptTime")),
        log=_log(namespace, pod, (status.get("driverInfo") or {}).get("podName") or f"{name}-driver"),
    )


def _without_object(name: str, namespace: str, living: Mapping[str, Any] | None) -> ApplicationStatus:
    if living is None:
        return ApplicationStatus(name, ApplicationState.NEW)
    return ApplicationStatus(
        name=name,
        state=ApplicationState.FAILING,
        owner=annotation(living, OWNER),
        message=f"there is no SparkApplication any more, but its driver pod {living['metadata']['name']} still runs",
        log=_log(namespace, living),
    )


def _state(found: Mapping[str, Any], living: Mapping[str, Any] | None) -> tuple[ApplicationState, str]:
    said = (found.get("status") or {}).get("applicationState") or {}
    text, message = said.get("state") or "", pods.shorten(_reason(said.get("errorMessage") or ""))
    trouble = pods.problem(living) if living else ""
    if found["metadata"].get("deletionTimestamp"):
        return ApplicationState.FAILING, "it is being deleted"
    if not text:
        # NEW would say that nobody will start it; the operator will.
        return ApplicationState.SUBMITTED, "the Spark operator has not taken it up yet: see that it runs"
    try:
        state = ApplicationState(text)
    except ValueError:
        return ApplicationState.UNKNOWN, f"the Spark operator calls its state {text!r}, which Millrace does not know"
    if living and state in _STILL_ENDING:
        return _STILL_ENDING[state], message or f"pod {living['metadata']['name']} has not ended yet"
    if state is ApplicationState.SUSPENDED:
        why = annotation(found, STOPPED) or "spec.suspend is set"
        return (ApplicationState.FAILED if annotation(found, BY_FORCE) else state), why
    return state, ": ".join(filter(None, (message, trouble)))


def _reason(message: str) -> str:
    """Return what matters of an error message: of a failed submission the operator gives all that spark-submit wrote.

    The reason stands between warnings and a stack trace: the API server's own words, else the first exception.
    """
    for pattern in _REASONS:
        if match := pattern.search(message):
            return match[1]
    return message


def metrics_url(found: Mapping[str, Any], living: Mapping[str, Any] | None) -> str | None:
    """Return the base URL of the driver's endpoint, or None while its pod has no address."""
    address = (living or {}).get("status", {}).get("podIP")
    ports = (found["spec"].get("driver") or {}).get("ports") or ()
    port = next((port["containerPort"] for port in ports if port.get("name") == METRICS_PORT), None)
    if not address or port is None:
        return None
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def suspension(found: Mapping[str, Any], why: str, by_force: bool) -> dict[str, Any]:
    """Return the change that makes the Spark operator end the driver and start no other."""
    notes = {STOPPED: why, BY_FORCE: "true" if by_force else None}
    # The uid, so that it never hits another application of the same name.
    return {"metadata": {"uid": found["metadata"]["uid"], "annotations": notes}, "spec": {"suspend": True}}


def timestamp(text: str | None) -> datetime | None:
    """Return a time of the API as an aware time, or None where there is none."""
    return datetime.fromisoformat(text) if text else None


def _log(namespace: str, pod: Mapping[str, Any] | None, name: str = "") -> str:
    return f"kubectl logs --namespace {namespace} {pod['metadata']['name'] if pod else name}"
