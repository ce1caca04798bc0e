"""What the operator's webhook fills in where a SparkApplication says nothing."""

import copy
from collections.abc import Mapping
from typing import Any

RETRY_SECONDS = 5


def with_defaults(app: Mapping[str, Any]) -> dict[str, Any]:
    """Return the application with every default; there is no webhook that would write them into the object."""
    result = copy.deepcopy(dict(app))
    spec = result["spec"]
    spec["mode"] = spec.get("mode") or "cluster"
    policy = spec["restartPolicy"] = dict(spec.get("restartPolicy") or {})
    policy["type"] = policy.get("type") or "Never"
    if policy["type"] != "Never":
        policy.setdefault("onFailureRetryInterval", RETRY_SECONDS)
        policy.setdefault("onSubmissionFailureRetryInterval", RETRY_SECONDS)
    conf = spec.get("sparkConf") or {}
    for role in ("driver", "executor"):
        part = spec[role] = dict(spec.get(role) or {})
        for field, value in (("cores", 1), ("memory", "1g")):
            if f"spark.{role}.{field}" not in conf:
                part.setdefault(field, value)
    if not _allocates_dynamically(spec) and not conf.get("spark.executor.instances"):
        spec["executor"].setdefault("instances", 1)
    return result


def _allocates_dynamically(spec: Mapping[str, Any]) -> bool:
    if allocation := spec.get("dynamicAllocation"):
        return bool(allocation.get("enabled"))
    return str((spec.get("sparkConf") or {}).get("spark.dynamicAllocation.enabled")).lower() == "true"
