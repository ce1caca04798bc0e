"""What a cluster brings before anything is installed in it: DNS, a storage class, volumes."""

from pathlib import Path
from typing import Any

from tests.cluster.local import settings

DNS_IMAGE = "docker.io/millrace-tests/coredns:0.1.0"
COREFILE = f""".:53 {{
    errors
    health :8080
    ready :8181
    kubernetes {settings.DOMAIN} {{
        pods disabled
        ttl 5
    }}
    cache 5
    prometheus :9153
}}
"""
STORAGE_CLASS = "standard"
VOLUMES = 8
VOLUME_SIZE = "20Gi"
"""Of a volume; nothing holds it to that."""


def dns() -> list[dict[str, Any]]:
    """CoreDNS with the names of Services, as a pod that network policies can name (label k8s-app: kube-dns)."""
    labels = {"k8s-app": "kube-dns"}
    where = {"namespace": "kube-system", "name": "coredns"}
    container = {
        "name": "coredns",
        "image": DNS_IMAGE,
        "args": ["-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 2},
        "volumeMounts": [{"name": "configuration", "mountPath": "/etc/coredns", "readOnly": True}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "serviceAccountName": "coredns",
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "containers": [container],
        "volumes": [{"name": "configuration", "configMap": {"name": "coredns"}}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            # Policies name the port that the pod has, and a cluster's DNS is at 53.
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    ports = [
        {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "targetPort": "dns-tcp", "protocol": "TCP"},
        {"name": "metrics", "port": 9153, "targetPort": "metrics", "protocol": "TCP"},
    ]
    reads = [
        {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    who = {"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"}
    rights = "rbac.authorization.k8s.io/v1"
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": where},
        {"apiVersion": rights, "kind": "ClusterRole", "metadata": {"name": "coredns"}, "rules": reads},
        {
            "apiVersion": rights,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": role,
            "subjects": [who],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": where, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": "kube-system", "name": "kube-dns", "labels": labels},
            "spec": {"clusterIP": settings.DNS_SERVICE, "selector": labels, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": where,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


def storage(folder: Path) -> list[dict[str, Any]]:
    """A default storage class, and volumes of it: folders on the node, which a claim gets when its pod has a node."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [settings.NODE]}
    volumes = []
    for number in range(VOLUMES):
        place = folder / "volumes" / f"{number}"
        place.mkdir(parents=True)
        spec = {
            "capacity": {"storage": VOLUME_SIZE},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "local": {"path": str(place)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        }
        metadata = {"name": f"volume-{number}"}
        volumes.append({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec})
    return [storage_class, *volumes]
