"""The Service of Spark's UI, which the operator makes for each driver."""

from collections.abc import Mapping
from typing import Any

from tests.cluster.standins.spark_operator.names import (
    APP_NAME,
    DRIVER,
    ROLE,
    owner_reference,
    resource_labels,
    web_ui_service,
)

PORT = 4040
PORT_NAME = "spark-driver-ui-port"


def service(app: Mapping[str, Any]) -> dict[str, Any]:
    """Return the Service as it is to be."""
    options = app["spec"].get("sparkUIOptions") or {}
    target = _target_port(app)
    metadata: dict[str, Any] = {
        "name": web_ui_service(app),
        "namespace": app["metadata"]["namespace"],
        "labels": options.get("serviceLabels") or resource_labels(app),
        "ownerReferences": [owner_reference(app)],
    }
    if options.get("serviceAnnotations"):
        metadata["annotations"] = options["serviceAnnotations"]
    port = {
        "name": options.get("servicePortName") or PORT_NAME,
        # With options that name no port upstream falls back to Spark's default, not to spark.ui.port.
        "port": options.get("servicePort") or (PORT if options else target),
        "targetPort": target,
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {
            "type": options.get("serviceType") or "ClusterIP",
            "ports": [port],
            "selector": {APP_NAME: app["metadata"]["name"], ROLE: DRIVER},
        },
    }


def updated(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Service that is there already as it is to be; its address stays."""
    metadata = {**existing["metadata"], **{key: wanted["metadata"][key] for key in ("labels", "ownerReferences")}}
    metadata["annotations"] = wanted["metadata"].get("annotations")
    return {**existing, "metadata": metadata, "spec": {**existing["spec"], **wanted["spec"]}}


def driver_info(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the application's status says of its UI."""
    port = made["spec"]["ports"][0]["port"]
    return {
        "webUIServiceName": made["metadata"]["name"],
        "webUIPort": port,
        "webUIAddress": f"{made['spec'].get('clusterIP') or ''}:{port}",
    }


def _target_port(app: Mapping[str, Any]) -> int:
    text = (app["spec"].get("sparkConf") or {}).get("spark.ui.port")
    return int(text) if text and text.isdigit() else PORT
