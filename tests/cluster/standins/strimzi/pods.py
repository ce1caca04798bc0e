"""The pod of a Kafka node, its volume and its configuration."""

import hashlib
import json
from typing import Any

from tests.cluster.standins.strimzi import broker, names, properties
from tests.cluster.standins.strimzi.certificates import Pair
from tests.cluster.standins.strimzi.clusters import Cluster

REVISION = "strimzi.io/revision"
SHARE_OF_MEMORY = "5Mi"  # of Strimzi's /tmp


def claim(cluster: Cluster) -> dict[str, Any]:
    """Return the node's PersistentVolumeClaim. It stays when the Kafka goes, unless the pool says otherwise."""
    volume = cluster.pool.volume
    metadata = cluster.metadata(cluster.claim)
    metadata["labels"] |= {"strimzi.io/pool-name": cluster.pool.name}
    metadata["annotations"] = {"strimzi.io/delete-claim": str(bool(volume.get("deleteClaim"))).lower()}
    if not volume.get("deleteClaim"):
        metadata["ownerReferences"] = []
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"}
    spec["resources"] = {"requests": {"storage": volume["size"]}}
    if volume.get("class"):
        spec["storageClassName"] = volume["class"]
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def configuration(cluster: Cluster, cluster_id: str) -> dict[str, Any]:
    """Return the ConfigMap that the node reads its settings from."""
    data = {"server.config": properties.text(properties.server_properties(cluster)), "cluster.id": cluster_id}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": cluster.metadata(cluster.node), "data": data}


def pod(cluster: Cluster, image: str, settings: dict[str, Any], keys: Pair) -> dict[str, Any]:
    """Return the node's pod. Its revision is another one whenever it has to be replaced.

    Args:
        cluster: whose node it is.
        image: of the stand-ins.
        settings: the node's ConfigMap.
        keys: the node's certificate and key.
    """
    template = cluster.pool.spec.get("template") or {}
    spec = {
        **pod_fields(template.get("pod") or {}),
        "hostname": cluster.node,
        "subdomain": names.brokers_service(cluster.name),
        "serviceAccountName": f"{cluster.name}-kafka",
        "restartPolicy": "Always",
        "containers": [_container(cluster, image, template.get("kafkaContainer") or {})],
        "volumes": [
            {"name": _data(cluster), "persistentVolumeClaim": {"claimName": cluster.claim}},
            {"name": "strimzi-tmp", "emptyDir": {"medium": "Memory", "sizeLimit": SHARE_OF_MEMORY}},
            {"name": "kafka-metrics-and-logging", "configMap": {"name": cluster.node}},
        ],
    }
    metadata = cluster.metadata(cluster.node)
    metadata["labels"] |= {
        "strimzi.io/pool-name": cluster.pool.name,
        "strimzi.io/broker-role": "true",
        "strimzi.io/controller-role": "true",
        "strimzi.io/pod-name": cluster.node,
        "strimzi.io/controller": "strimzipodset",
        "strimzi.io/controller-name": f"{cluster.name}-{cluster.pool.name}",
    }
    known = json.dumps([metadata["labels"], spec, settings["data"], keys.certificate], sort_keys=True)
    metadata["annotations"] = {REVISION: hashlib.sha256(known.encode()).hexdigest()[:8]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def pod_fields(template: dict[str, Any]) -> dict[str, Any]:
    """Return what a template of a pod says about the pod's spec."""
    known = (
        "affinity enableServiceLinks hostAliases imagePullSecrets priorityClassName schedulerName securityContext "
        "terminationGracePeriodSeconds tolerations topologySpreadConstraints"
    )
    return {"terminationGracePeriodSeconds": 30} | {name: template[name] for name in known.split() if name in template}


def run(subcommand: str, module: str = "strimzi") -> list[str]:
    """Return the arguments of the image for one of the stand-ins' programs."""
    return ["python", "-m", f"tests.cluster.standins.{module}", *subcommand.split()]


def _data(cluster: Cluster) -> str:
    return f"data-{cluster.pool.volume['id']}"


def _container(cluster: Cluster, image: str, template: dict[str, Any]) -> dict[str, Any]:
    listeners = {"plain": "tcp-clients", "tls": "tcp-clientstls"}
    ports = {"tcp-ctrlplane": names.CONTROL_PLANE, "tcp-replication": names.REPLICATION}
    ports |= {listeners[each["name"]]: each["port"] for each in cluster.spec["listeners"]}
    if "metricsConfig" in cluster.spec:
        ports["tcp-prometheus"] = names.METRICS
    environment = {"NAMESPACE": cluster.namespace, "CLUSTER": cluster.name, "NODE": cluster.node}
    environment["KAFKA_JVM_OPTIONS"] = " ".join(jvm_options(cluster.pool.spec.get("jvmOptions") or {}))
    # What the node says itself, once, when all of its listeners are open and it may lead partitions.
    started = {"exec": {"command": ["grep", "-q", broker.STARTED, broker.STATE]}}
    return {
        "name": "kafka",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": run("broker"),
        "env": [
            *({"name": name, "value": value} for name, value in environment.items()),
            *(template.get("env") or []),
        ],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        "readinessProbe": {**started, "initialDelaySeconds": 5, "periodSeconds": 3, "timeoutSeconds": 5},
        "resources": cluster.pool.spec.get("resources") or {},
        "securityContext": template.get("securityContext") or {},
        "volumeMounts": [
            {"name": _data(cluster), "mountPath": f"{properties.DATA}/{_data(cluster)}"},
            {"name": "strimzi-tmp", "mountPath": "/tmp"},
            {"name": "kafka-metrics-and-logging", "mountPath": str(broker.CONFIGURATION), "readOnly": True},
        ],
    }


def jvm_options(given: dict[str, Any]) -> list[str]:
    """Return a pool's jvmOptions as Java takes them."""
    options = [f"{name}{given[name]}" for name in ("-Xms", "-Xmx") if name in given]
    for name, value in (given.get("-XX") or {}).items():
        switch = {"true": f"+{name}", "false": f"-{name}"}
        options.append(f"-XX:{switch.get(str(value).lower(), f'{name}={value}')}")
    return options + [f"-D{each['name']}={each['value']}" for each in given.get("javaSystemProperties") or []]
