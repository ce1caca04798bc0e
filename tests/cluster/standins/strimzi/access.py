"""Services, service accounts and roles of a cluster."""

from typing import Any

from tests.cluster.standins.strimzi import names, secrets
from tests.cluster.standins.strimzi.clusters import Cluster

LISTENER_PORTS = {"plain": "tcp-clients", "tls": "tcp-clientstls"}


def services(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the service that clients ask first, and the one that gives each broker a name."""
    clients = {LISTENER_PORTS[each["name"]]: each["port"] for each in cluster.spec["listeners"]}
    selected = names.selector(cluster.labels())
    bootstrap = {
        "type": "ClusterIP",
        "selector": {**selected, "strimzi.io/broker-role": "true"},
        "ports": _ports({"tcp-replication": names.REPLICATION, **clients}),
    }
    brokers = {
        "type": "ClusterIP",
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selected,
        "ports": _ports({"tcp-ctrlplane": names.CONTROL_PLANE, "tcp-replication": names.REPLICATION, **clients}),
    }
    discoverable = cluster.metadata(names.bootstrap_service(cluster.name))
    discoverable["labels"] |= {"strimzi.io/discovery": "true"}
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": discoverable, "spec": bootstrap},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": cluster.metadata(names.brokers_service(cluster.name)),
            "spec": brokers,
        },
    ]


def accounts(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the service accounts, and what those that ask the API server may ask."""
    parts = [part for part in ("kafka", "entity-operator", "kafka-exporter") if part in present(cluster)]
    own_secrets = [cluster.node, secrets.cluster_authority(cluster.name)]
    found = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": cluster.metadata(f"{cluster.name}-{part}", part)}
        for part in parts
    ]
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": own_secrets}
    found += _role(cluster, "kafka", [rule])
    if "entity-operator" in parts:
        found += _role(cluster, "entity-operator", ENTITY_RULES)
    return found


def present(cluster: Cluster) -> set[str]:
    """Return the parts that a cluster has."""
    spec = cluster.kafka["spec"]
    optional = {"entity-operator": "entityOperator", "kafka-exporter": "kafkaExporter"}
    return {"kafka", *(part for part, field in optional.items() if field in spec)}


def disruption_budget(cluster: Cluster) -> dict[str, Any]:
    """Return the budget of the brokers' pods: by the number that must stay, as nobody can count custom controllers'."""
    template = (cluster.spec.get("template") or {}).get("podDisruptionBudget") or {}
    spec = {
        "minAvailable": max(0, 1 - template.get("maxUnavailable", 1)),
        "selector": {"matchLabels": names.selector(cluster.labels())},
    }
    metadata = cluster.metadata(f"{cluster.name}-kafka")
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata, "spec": spec}


_KAFKA = {"apiGroups": ["kafka.strimzi.io"]}
# No more than the chart's ClusterRole strimzi-entity-operator: nobody can grant what they don't have.
ENTITY_RULES: list[dict[str, Any]] = [
    {**_KAFKA, "resources": ["kafkatopics", "kafkausers"], "verbs": ["get", "list", "watch", "patch"]},
    {**_KAFKA, "resources": ["kafkatopics/status", "kafkausers/status"], "verbs": ["patch"]},
    # Of users' passwords, and of the secrets that are made for users.
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch"]},
]


def _role(cluster: Cluster, part: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    group, name = "rbac.authorization.k8s.io", f"{cluster.name}-{part}"
    subject = {"kind": "ServiceAccount", "name": name, "namespace": cluster.namespace}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": cluster.metadata(name, part), "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": cluster.metadata(f"{name}-role", part),
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [subject],
        },
    ]


def _ports(ports: dict[str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in ports.items()]
