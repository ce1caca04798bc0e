"""Names and labels of what Strimzi 1.2 makes for a Kafka; the chart's policies, monitors and rules select by them."""

import os
import re
from collections.abc import Mapping
from typing import Any

MANAGED_BY = "strimzi-cluster-operator"
ORGANIZATION = "io.strimzi"
CLUSTER = "strimzi.io/cluster"
SELECTORS = (CLUSTER, "strimzi.io/name", "strimzi.io/kind", "strimzi.io/pool-name")
# Strimzi gives the labels of a resource to all that it makes of it, but for these.
EXCLUDED = r"(^app.kubernetes.io/(?!part-of).*|^kustomize.toolkit.fluxcd.io.*)"

CONTROL_PLANE, REPLICATION, METRICS, TOPIC_OPERATOR, USER_OPERATOR = 9090, 9091, 9404, 8080, 8081


def labels(
    owner: Mapping[str, Any], name: str, component: str, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the labels of what is made for a Kafka.

    Args:
        owner: the Kafka.
        name: of the part: <cluster>-kafka, <cluster>-entity-operator, <cluster>-kafka-exporter.
        component: the part's kind.
        more: labels that it has besides.
    """
    cluster = owner["metadata"]["name"]
    excluded = re.compile(os.environ.get("STRIMZI_LABELS_EXCLUSION_PATTERN") or EXCLUDED)
    own = owner["metadata"].get("labels") or {}
    return {
        **{label: value for label, value in own.items() if not excluded.fullmatch(label)},
        "strimzi.io/kind": owner["kind"],
        "strimzi.io/name": name,
        CLUSTER: cluster,
        "strimzi.io/component-type": component,
        "app.kubernetes.io/name": component,
        "app.kubernetes.io/instance": cluster,
        "app.kubernetes.io/part-of": f"strimzi-{cluster}",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        **(more or {}),
    }


def selector(of: Mapping[str, str]) -> dict[str, str]:
    """Return those of the labels by which pods are selected."""
    return {label: of[label] for label in SELECTORS if label in of}


def bootstrap_service(cluster: str) -> str:
    """Return the name of the service by which clients find the brokers."""
    return f"{cluster}-kafka-bootstrap"


def brokers_service(cluster: str) -> str:
    """Return the name of the headless service that gives each broker a name."""
    return f"{cluster}-kafka-brokers"


def service_names(service: str, namespace: str) -> list[str]:
    """Return all names of a service, shortest first."""
    return [service, f"{service}.{namespace}", f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.{domain()}"]


def pod_name_of(cluster: str, namespace: str, pod: str) -> str:
    """Return the name under which a broker's pod is found, without the cluster's domain."""
    return f"{pod}.{brokers_service(cluster)}.{namespace}.svc"


def domain() -> str:
    """Return the domain of services' names."""
    return os.environ.get("KUBERNETES_SERVICE_DNS_DOMAIN") or "cluster.local"


def principal(name: str) -> str:
    """Return the Kafka user whom a certificate of the cluster's authority makes of its holder."""
    return f"User:CN={name},O={ORGANIZATION}"


def super_users(cluster: str) -> list[str]:
    """Return who may do everything: only this cluster's own parts have such a certificate."""
    parts = ("kafka", "entity-topic-operator", "entity-user-operator", "kafka-exporter")
    return [principal(f"{cluster}-{part}") for part in parts]
