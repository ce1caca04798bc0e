"""Pod Security `restricted`: what its admission would say against a pod."""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def violations(pod: dict[str, Any]) -> list[str]:
    """Return what `restricted` forbids in a pod's spec, one sentence for each."""
    found = [f"the pod has {name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name)]
    for volume in pod.get("volumes", []):
        found += [f"volume {volume['name']} is a {kind}" for kind in volume.keys() - VOLUMES - {"name"}]
    for container in containers(pod):
        found += [f"container {container.get('name')}: {reason}" for reason in _container(container, pod)]
    return found


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all containers of a pod's spec, those that run first among them."""
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


def _container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    whole = {**pod.get("securityContext", {}), **own}
    if own.get("privileged"):
        yield "is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may escalate privileges"
    if own.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "does not drop all capabilities"
    if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if whole.get("runAsNonRoot") is not True:
        yield "may run as root"
    if whole.get("runAsUser") == 0:
        yield "runs as root"
    if whole.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "has no seccomp profile"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "takes a port of the node"
