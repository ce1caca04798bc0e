"""The Deployments beside the brokers: entity operator and Kafka exporter."""

import hashlib
from typing import Any

from tests.cluster.standins.strimzi import names
from tests.cluster.standins.strimzi.certificates import Pair
from tests.cluster.standins.strimzi.clusters import Cluster
from tests.cluster.standins.strimzi.pods import SHARE_OF_MEMORY, pod_fields, run

KEYS = "/etc/kafka-client"
OPERATORS = {"topic": names.TOPIC_OPERATOR, "user": names.USER_OPERATOR}


def entity_operator(cluster: Cluster, image: str, keys: dict[str, Pair]) -> dict[str, Any]:
    """Return the Deployment of topic operator and user operator; `keys` are those of each."""
    spec = cluster.kafka["spec"]["entityOperator"]
    template = spec.get("template") or {}
    containers = [
        _container(
            cluster,
            f"{each}-operator",
            image,
            run(f"{each}-operator"),
            {f"healthcheck-{each[0]}o": OPERATORS[each]},
            (spec[f"{each}Operator"] or {}).get("resources") or {},
            template.get(f"{each}OperatorContainer") or {},
            {
                "STRIMZI_NAMESPACE": cluster.namespace,
                "STRIMZI_RESOURCE_LABELS": f"{names.CLUSTER}={cluster.name}",
                "STRIMZI_ACLS_ADMIN_API_SUPPORTED": str(cluster.secured).lower(),
            },
            f"{each}-operator-certs",
            ("/healthy", "/ready"),
        )
        for each in OPERATORS
        if f"{each}Operator" in spec
    ]
    secrets = {f"{each}-operator-certs": f"{cluster.name}-entity-{each}-operator-certs" for each in keys}
    return _deployment(cluster, "entity-operator", containers, template.get("pod") or {}, secrets, keys)


def exporter(cluster: Cluster, image: str, keys: Pair) -> dict[str, Any]:
    """Return the Deployment of the Kafka exporter."""
    spec = cluster.kafka["spec"]["kafkaExporter"]
    template = spec.get("template") or {}
    container = _container(
        cluster,
        f"{cluster.name}-kafka-exporter",
        image,
        run("", "kafka_exporter"),
        {"tcp-prometheus": names.METRICS},
        spec.get("resources") or {},
        template.get("container") or {},
        {
            "KAFKA_EXPORTER_TOPIC_REGEX": spec.get("topicRegex") or ".*",
            "KAFKA_EXPORTER_GROUP_REGEX": spec.get("groupRegex") or ".*",
        },
        "kafka-exporter-certs",
        ("/healthz", "/healthz"),
    )
    secrets = {"kafka-exporter-certs": f"{cluster.name}-kafka-exporter-certs"}
    pod = template.get("pod") or {}
    return _deployment(cluster, "kafka-exporter", [container], pod, secrets, {"exporter": keys}, api=False)


def _container(
    cluster: Cluster,
    name: str,
    image: str,
    arguments: list[str],
    ports: dict[str, int],
    resources: dict[str, Any],
    template: dict[str, Any],
    environment: dict[str, str],
    secret: str,
    probes: tuple[str, str],
) -> dict[str, Any]:
    [port] = ports
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": f"{names.bootstrap_service(cluster.name)}:{names.REPLICATION}",
        "KAFKA_KEYS": f"{KEYS}/{secret}",
        "KAFKA_AUTHORITY": f"{KEYS}/cluster-ca-certs/ca.crt",
        **environment,
    }
    alive, ready = ({"path": path, "port": port} for path in probes)
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "ports": [{"name": port, "containerPort": number, "protocol": "TCP"} for port, number in ports.items()],
        "livenessProbe": {"httpGet": alive, "initialDelaySeconds": 10, "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {"httpGet": ready, "initialDelaySeconds": 2, "periodSeconds": 3, "timeoutSeconds": 5},
        "resources": resources,
        "securityContext": template.get("securityContext") or {},
        "volumeMounts": [
            {"name": "strimzi-tmp", "mountPath": "/tmp"},
            {"name": secret, "mountPath": f"{KEYS}/{secret}", "readOnly": True},
            {"name": "cluster-ca-certs", "mountPath": f"{KEYS}/cluster-ca-certs", "readOnly": True},
        ],
    }


def _deployment(
    cluster: Cluster,
    part: str,
    containers: list[dict[str, Any]],
    pod: dict[str, Any],
    secrets: dict[str, str],
    keys: dict[str, Pair],
    api: bool = True,
) -> dict[str, Any]:
    metadata = cluster.metadata(f"{cluster.name}-{part}", part)
    certificates = "".join(pair.certificate for pair in keys.values())
    # Other certificates are other pods: a program reads them at its start.
    annotations = {"strimzi.io/server-cert-hash": hashlib.sha256(certificates.encode()).hexdigest()[:8]}
    volumes = {**secrets, "cluster-ca-certs": f"{cluster.name}-cluster-ca-cert"}
    memory = {"name": "strimzi-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": SHARE_OF_MEMORY}}
    spec = {
        **pod_fields(pod),
        "serviceAccountName": metadata["name"],
        "automountServiceAccountToken": api,
        "containers": containers,
        "volumes": [memory, *({"name": of, "secret": {"secretName": name}} for of, name in volumes.items())],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": names.selector(metadata["labels"])},
            "template": {"metadata": {"labels": metadata["labels"], "annotations": annotations}, "spec": spec},
        },
    }
