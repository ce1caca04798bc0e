"""What network policies let through: the rules of Kubernetes' NetworkPolicy, applied to pods that are thought of."""

import ipaddress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Pod:
    """A pod, as policies see it."""

    namespace: str
    labels: dict[str, str] = field(default_factory=dict, hash=False)


def allowed(
    policies: list[dict[str, Any]], source: Pod | str, target: Pod | str, port: int, protocol: str = "TCP"
) -> bool:
    """Say whether a connection is let through, out of the one and into the other.

    Args:
        policies: NetworkPolicy objects; each must name its namespace.
        source: a pod, or the address of something outside of the cluster.
        target: likewise.
        port: of the target, a number.
        protocol: TCP or UDP.
    """
    return _passes(policies, source, target, "Egress", (port, protocol)) and _passes(
        policies, target, source, "Ingress", (port, protocol)
    )


def _passes(
    policies: list[dict[str, Any]], own: Pod | str, peer: Pod | str, direction: str, port: tuple[int, str]
) -> bool:
    """Whether the policies about one side let the other be spoken to. About an address there are none."""
    if isinstance(own, str):
        return True
    about = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == own.namespace
        and direction in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], own.labels)
    ]
    rules = [rule for policy in about for rule in policy.get(direction.lower()) or []]
    return not about or any(_matches(rule, peer, own.namespace, direction, port) for rule in rules)


def _matches(rule: dict[str, Any], peer: Pod | str, namespace: str, direction: str, port: tuple[int, str]) -> bool:
    ports = rule.get("ports")
    if ports and not any((each["port"], each.get("protocol", "TCP")) == port for each in ports):
        return False
    peers = rule.get("to" if direction == "Egress" else "from")
    return not peers or any(_is(each, peer, namespace) for each in peers)


def _is(description: dict[str, Any], peer: Pod | str, namespace: str) -> bool:
    if isinstance(peer, str):
        block = description.get("ipBlock")
        if block is None:
            return False
        address, excepted = ipaddress.ip_address(peer), block.get("except", [])
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(each) for each in excepted
        )
    if "ipBlock" in description:
        return False
    if "namespaceSelector" in description:
        if not _selects(description["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace}):
            return False
    elif peer.namespace != namespace:
        return False
    return _selects(description.get("podSelector", {}), peer.labels)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    unknown = [each for each in expressions if each["operator"] != "In"]
    if unknown:
        raise NotImplementedError(f"operators other than In: {unknown}")
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )
