"""A Job as an object in the cluster: how one is made of a `JobSpec`, and what its status says."""

import json
from collections.abc import Mapping
from typing import Any

from millrace.targets import pods
from millrace.targets.base import JobSpec, JobState, JobStatus
from millrace.targets.names import OWNER, RUN_VARIABLE, annotation, object_labels
from millrace.targets.spark_resource import timestamp

RESULT_FILE = "/dev/termination-log"
"""What a program writes there (4096 bytes at most) stands in its pod's status after its end."""
KEPT_SECONDS = 24 * 3600
"""How long an ended Job is kept; its run asks for its result until it ends."""
METRICS_PORT = 8090
USER = 10001
ACCOUNT = "ingest"
KAFKA_SECRET = "kafka-user-ingest"  # noqa: S105 - its name
KAFKA_CA = "/etc/millrace/kafka"
"""Where the ConfigMap `millrace` says that the certificate is (KAFKA_SSL_CA_LOCATION)."""


def pod_labels(name: str) -> dict[str, str]:
    """Return the label that the Job controller gives to a Job's pods."""
    return {"batch.kubernetes.io/job-name": name}


def build(
    job: JobSpec, *, namespace: str, owner: str, image: str, labels: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the Job that runs a module once: no second try, and nothing that needs rights on its node."""
    arguments = list(job.arguments)
    if job.status_file_argument:
        arguments += [job.status_file_argument, RESULT_FILE]
    if job.metrics_port_argument:
        arguments += [job.metrics_port_argument, str(METRICS_PORT)]
    own = {
        "app.kubernetes.io/name": job.name,
        "app.kubernetes.io/part-of": "millrace",
        "app.kubernetes.io/component": "ingest",
        **object_labels(labels or {}),
    }
    container: dict[str, Any] = {
        "name": job.name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", job.module],
        "args": arguments,
        "env": [
            _secret("KAFKA_USERNAME", "username"),
            _secret("KAFKA_PASSWORD", "password"),
            {"name": RUN_VARIABLE, "value": owner},
            *({"name": name, "value": value} for name, value in job.env.items()),
        ],
        "envFrom": [{"configMapRef": {"name": "millrace"}}],
        "resources": {
            "requests": {"cpu": "200m", "memory": "256Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": RESULT_FILE,
        # A program that fails leaves no result; the end of its log says why.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "temporary", "mountPath": "/tmp"},  # noqa: S108 - a volume of its own
            {"name": "kafka-ca", "mountPath": KAFKA_CA, "readOnly": True},
        ],
    }
    if job.metrics_port_argument:
        container["ports"] = [{"name": "metrics", "containerPort": METRICS_PORT}]
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "temporary", "emptyDir": {"sizeLimit": "256Mi"}},
            {"name": "kafka-ca", "secret": {"secretName": "kafka-ca", "optional": True}},
        ],
    }
    notes = {OWNER: owner}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name, "namespace": namespace, "labels": own, "annotations": notes},
        "spec": {
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {"metadata": {"labels": own, "annotations": notes}, "spec": pod},
        },
    }


def _secret(variable: str, key: str) -> dict[str, Any]:
    # Optional, because a broker with nothing but a plain listener has no users and no certificate. Where it has them
    # and the secret is missing, the program says that it is refused, instead of waiting for ever.
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": KAFKA_SECRET, "key": key, "optional": True}}}


def status_of(name: str, namespace: str, found: Mapping[str, Any] | None, own_pods: list[dict[str, Any]]) -> JobStatus:
    """Return what the Job (None: there is none) and its pods say together; the pods may be gone."""
    pod = pods.newest(own_pods)
    if found is None and pod is not None and pods.is_living(pod):
        message = f"there is no Job any more, but its pod {pod['metadata']['name']} still runs"
        return JobStatus(name, JobState.RUNNING, owner=annotation(pod, OWNER), message=message)
    if found is None:
        return JobStatus(name, JobState.NEW)
    status = found.get("status") or {}
    state, message = _state(found, pod)
    return JobStatus(
        name=name,
        state=state,
        owner=annotation(found, OWNER),
        tries=1,
        message=message,
        started_at=timestamp(status.get("startTime")),
        result=_result(pod),
        log=f"kubectl logs --namespace {namespace} job/{name}",
    )


def _state(found: Mapping[str, Any], pod: Mapping[str, Any] | None) -> tuple[JobState, str]:
    conditions = {
        condition["type"]: condition
        for condition in (found.get("status") or {}).get("conditions") or ()
        if condition.get("status") == "True"
    }
    if "Complete" in conditions:
        return JobState.SUCCEEDED, ""
    if failed := conditions.get("Failed"):
        if pod and not pods.is_living(pod):
            return JobState.FAILED, pods.failure(pod)
        return JobState.FAILED, pods.shorten(failed.get("message") or failed.get("reason") or "it does not say why")
    if found["metadata"].get("deletionTimestamp"):
        return JobState.RUNNING, "it is being deleted"
    return JobState.RUNNING, pods.problem(pod) if pod and pods.is_living(pod) else ""


def _result(pod: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the summary that a program left as its termination message."""
    try:
        value = json.loads(pods.termination(pod)[2]) if pod else None
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
