"""The names that Kubeflow's spark-operator 2.5.2 gives to what it makes, and the states that it speaks of."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

GROUP = "sparkoperator.k8s.io"
API_VERSION = f"{GROUP}/v1beta2"
KIND = "SparkApplication"

APP_NAME = f"{GROUP}/app-name"
LAUNCHED = f"{GROUP}/launched-by-spark-operator"
MUTATED = f"{GROUP}/mutated-by-spark-operator"
SUBMISSION_ID = f"{GROUP}/submission-id"
ROLE = "spark-role"
EXECUTOR_NUMBER = "spark-exec-id"
SPARK_APPLICATION_ID = "spark-app-selector"

DRIVER = "driver"
EXECUTOR = "executor"
DRIVER_CONTAINER = "spark-kubernetes-driver"
EXECUTOR_CONTAINER = "spark-kubernetes-executor"
OLD_EXECUTOR_CONTAINER = "executor"

LONGEST_LABEL = 63


class State(StrEnum):
    """What `status.applicationState.state` can be."""

    NEW = ""
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SUBMISSION_FAILED = "SUBMISSION_FAILED"
    PENDING_RERUN = "PENDING_RERUN"
    INVALIDATING = "INVALIDATING"
    SUCCEEDING = "SUCCEEDING"
    FAILING = "FAILING"
    SUSPENDING = "SUSPENDING"
    SUSPENDED = "SUSPENDED"
    RESUMING = "RESUMING"
    UNKNOWN = "UNKNOWN"


class PodState(StrEnum):
    """What a driver or an executor is said to be, in `status.executorState` and in events."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"

    @property
    def ended(self) -> bool:
        """Whether its program runs no more."""
        return self in (PodState.COMPLETED, PodState.FAILED)


def driver_pod(app: Mapping[str, Any]) -> str:
    """Return the name that the driver's pod gets."""
    spec = app["spec"]
    named = (spec.get("driver") or {}).get("podName") or (spec.get("sparkConf") or {}).get(
        "spark.kubernetes.driver.pod.name"
    )
    return named or f"{app['metadata']['name']}-driver"


def web_ui_service(app: Mapping[str, Any]) -> str:
    """Return the name of the Service of Spark's UI; a long name is cut, and made unlike others."""
    name, suffix = app["metadata"]["name"], "ui-svc"
    whole = f"{name}-{suffix}"
    if len(whole) <= LONGEST_LABEL:
        return whole
    digest = hashlib.md5(whole.encode(), usedforsecurity=False).hexdigest()[:8]
    return f"{name[: LONGEST_LABEL - len(suffix) - 10]}-{digest}-{suffix}"


def owner_reference(app: Mapping[str, Any]) -> dict[str, Any]:
    """Return what makes an object go when the application goes."""
    metadata = app["metadata"]
    who = {"apiVersion": API_VERSION, "kind": KIND, "name": metadata["name"], "uid": metadata["uid"]}
    return {**who, "controller": True, "blockOwnerDeletion": True}


def resource_labels(app: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels that everything of the application's current submission has."""
    labels = {APP_NAME: app["metadata"]["name"]}
    if submission := (app.get("status") or {}).get("submissionID"):
        labels[SUBMISSION_ID] = submission
    return labels
