"""The pod templates that Spark makes its pods from.

Upstream writes a template with the owner alone, and its webhook changes each pod when Spark makes it. Here all of it is
in the template. What Spark itself sets wins over a template and loses against a webhook: where that would make a
difference the application is refused, not silently run in another way.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from tests.cluster.standins.spark_operator.names import (
    DRIVER,
    DRIVER_CONTAINER,
    EXECUTOR_CONTAINER,
    owner_reference,
)

LOCAL_DISK = "spark-local-dir-"
"""How the names of volumes begin that are Spark's scratch space; they are settings of Spark, not of the template."""
CONTAINERS = {DRIVER: DRIVER_CONTAINER}
_NOT_OF_THE_WHOLE = (
    "sparkConfigMap",
    "hadoopConfigMap",
    "monitoring",
    "batchScheduler",
    "batchSchedulerOptions",
    "driverIngressOptions",
)
_NOT_OF_A_ROLE = ("memoryLimit", "gpu")

_OF_THE_CONTAINER = {"env": "env", "envFrom": "envFrom", "ports": "ports"}
_CONTAINER_FIELDS = ("securityContext", "lifecycle")
_POD_FIELDS = {
    "initContainers": "initContainers",
    "dnsConfig": "dnsConfig",
    "priorityClassName": "priorityClassName",
    "schedulerName": "schedulerName",
    "nodeSelector": "nodeSelector",
    "affinity": "affinity",
    "tolerations": "tolerations",
    "hostAliases": "hostAliases",
    "podSecurityContext": "securityContext",
    "terminationGracePeriodSeconds": "terminationGracePeriodSeconds",
    "shareProcessNamespace": "shareProcessNamespace",
}
Template = dict[str, Any]


class RefusedError(Exception):
    """The application asks for something that this stand-in does not do as upstream does."""


def container_name(role: str) -> str:
    """Return what Spark calls the container of a driver or an executor."""
    return CONTAINERS.get(role, EXECUTOR_CONTAINER)


def refuse_what_is_left_out(app: Mapping[str, Any]) -> None:
    """Raise RefusedError if the application says something that upstream obeys and this stand-in can't."""
    spec = app["spec"]
    fields = [f"spec.{field}" for field in _NOT_OF_THE_WHOLE if spec.get(field)]
    fields += [
        f"spec.{role}.{field}"
        for role in ("driver", "executor")
        for field in _NOT_OF_A_ROLE
        if (spec.get(role) or {}).get(field)
    ]
    if spec["mode"] != "cluster":
        fields.append(f"spec.mode {spec['mode']}")
    if fields:
        raise RefusedError(f"the stand-in for the Spark operator does not do {', '.join(fields)}")


def pod_template(app: Mapping[str, Any], role: str) -> Template:
    """Return the template of an application's driver or executors."""
    part = app["spec"][role]
    owner = owner_reference(app)
    if role != DRIVER:
        # An executor's controller is its driver; this one only says whose it is.
        owner = {key: value for key, value in owner.items() if key not in ("controller", "blockOwnerDeletion")}
    given = part.get("template")
    template: Template = copy.deepcopy(given) if given else {"spec": {"containers": [{"name": container_name(role)}]}}
    template.setdefault("metadata", {}).setdefault("ownerReferences", []).append(owner)
    template["metadata"].pop("creationTimestamp", None)
    if not given:  # upstream's webhook leaves pods of a given template alone
        for add in _ADDITIONS:
            add(template["spec"], app["spec"], part)
    return {"apiVersion": "v1", "kind": "Pod", **template}


def _add_to_container(pod: Template, spec: Mapping[str, Any], part: Mapping[str, Any]) -> None:
    container = pod["containers"][0]
    for field, target in _OF_THE_CONTAINER.items():
        if values := part.get(field):
            container[target] = copy.deepcopy(values)
    for field in _CONTAINER_FIELDS:
        if value := part.get(field):
            container[field] = copy.deepcopy(value)


def _add_volumes(pod: Template, spec: Mapping[str, Any], part: Mapping[str, Any]) -> None:
    volumes = {volume["name"]: volume for volume in spec.get("volumes") or ()}
    for mount in part.get("volumeMounts") or ():
        name = mount["name"]
        if name.startswith(LOCAL_DISK) or name not in volumes:
            continue
        _add_volume(pod, volumes[name], mount)


def _add_config_maps(pod: Template, spec: Mapping[str, Any], part: Mapping[str, Any]) -> None:
    for each in part.get("configMaps") or ():
        volume = {"name": f"{each['name']}-vol"[:63], "configMap": {"name": each["name"]}}
        _add_volume(pod, volume, {"name": volume["name"], "mountPath": each["path"], "readOnly": True})


def _add_volume(pod: Template, volume: Mapping[str, Any], mount: Mapping[str, Any]) -> None:
    made = pod.setdefault("volumes", [])
    if all(each["name"] != volume["name"] for each in made):
        made.append(copy.deepcopy(dict(volume)))
    pod["containers"][0].setdefault("volumeMounts", []).append(dict(mount))


def _add_to_pod(pod: Template, spec: Mapping[str, Any], part: Mapping[str, Any]) -> None:
    for field, target in _POD_FIELDS.items():
        if value := part.get(field):
            pod[target] = copy.deepcopy(value)
    if part.get("terminationGracePeriodSeconds") == 0:
        pod["terminationGracePeriodSeconds"] = 0
    if part.get("hostNetwork"):
        pod["hostNetwork"], pod["dnsPolicy"] = True, "ClusterFirstWithHostNet"
    pod["containers"] += copy.deepcopy(list(part.get("sidecars") or ()))


_ADDITIONS: tuple[Callable[[Template, Mapping[str, Any], Mapping[str, Any]], None], ...] = (
    _add_to_container,
    _add_volumes,
    _add_config_maps,
    _add_to_pod,
)
