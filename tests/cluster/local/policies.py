"""Enforces NetworkPolicies on the node, by nftables. Stands in for a network plugin that does.

No maintained controller for it can be built from a Go module where our tests run. What this one leaves out: IPv6, nodes
other than this one, and that a pod may always reach itself by way of a Service. As with any other, a pod that has just
started is known a moment later.
"""

import argparse
import logging
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import kubernetes
import urllib3

TABLE = "network-policies"
SETTLE_SECONDS = 0.05
"""Changes come in bursts."""
RETRY_SECONDS = 0.3
ANY = "0.0.0.0/0"

Object = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """What counts of a pod."""

    namespace: str
    address: str
    labels: tuple[tuple[str, str], ...]
    ports: tuple[tuple[str, int], ...]
    """Names and numbers of its containers' ports."""


def pods_of(objects: Iterable[Object]) -> list[Pod]:
    """Return the pods that have an address of their own and have not ended."""
    found = []
    for each in objects:
        status, spec = each.get("status") or {}, each["spec"]
        if status.get("podIP") and status.get("phase") in ("Pending", "Running") and not spec.get("hostNetwork"):
            containers = [*spec["containers"], *(spec.get("initContainers") or [])]
            ports = [
                (port["name"], port["containerPort"])
                for container in containers
                for port in container.get("ports") or []
                if port.get("name")
            ]
            labels = each["metadata"].get("labels") or {}
            found.append(
                Pod(each["metadata"]["namespace"], status["podIP"], tuple(sorted(labels.items())), tuple(ports))
            )
    return found


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector selects something with these labels; an empty one selects everything."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for expression in selector.get("matchExpressions") or []:
        value, values = labels.get(expression["key"]), expression.get("values") or []
        holds = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[expression["operator"]]
        if not holds:
            return False
    return True


def rules(pods: list[Pod], namespaces: dict[str, dict[str, str]], policies: Iterable[Object]) -> str:
    """Return the whole table as nft reads it.

    Args:
        pods: all pods.
        namespaces: labels of each namespace.
        policies: all NetworkPolicies.
    """
    isolated: dict[str, set[str]] = {"ingress": set(), "egress": set()}
    allowed: dict[str, list[str]] = {"ingress": [], "egress": []}
    for policy in policies:
        spec, place = policy["spec"], policy["metadata"]["namespace"]
        subjects = [
            pod for pod in pods if pod.namespace == place and selects(spec.get("podSelector") or {}, dict(pod.labels))
        ]
        if not subjects:
            continue
        kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
        for kind in (each.lower() for each in kinds):
            isolated[kind] |= {pod.address for pod in subjects}
            for rule in spec.get(kind) or []:
                peers = rule.get("from" if kind == "ingress" else "to")
                others = _peers(peers, pods, namespaces, place)
                allowed[kind] += _statements(kind, subjects, others, rule.get("ports"))
    lines = [f"table ip {TABLE}", f"delete table ip {TABLE}", f"table ip {TABLE} {{"]
    for kind in ("egress", "ingress"):
        lines += [f"  chain {kind} {{", *(f"    {each}" for each in dict.fromkeys(allowed[kind])), "    drop", "  }"]
    ways = {"forward": ("egress", "ingress"), "input": ("egress",)}
    for hook, kinds_of_hook in ways.items():
        lines += [f"  chain {hook} {{", f"    type filter hook {hook} priority 10; policy accept;"]
        lines.append("    ct state established,related accept")
        for kind in kinds_of_hook:
            if isolated[kind]:
                side = "saddr" if kind == "egress" else "daddr"
                lines.append(f"    ip {side} {_set(isolated[kind])} jump {kind}")
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


@dataclass(frozen=True)
class Peers:
    """Who is on the other side of a rule."""

    pods: tuple[Pod, ...]
    blocks: tuple[tuple[str, tuple[str, ...]], ...]
    """Ranges of addresses, each with the ranges that are left out of it."""


def _peers(
    given: list[Object] | None, pods: list[Pod], namespaces: dict[str, dict[str, str]], place: str
) -> Peers | None:
    """Return the other side; None for everybody."""
    if not given:
        return None
    found: list[Pod] = []
    blocks = []
    for peer in given:
        if block := peer.get("ipBlock"):
            blocks.append((block["cidr"], tuple(block.get("except") or ())))
            continue
        if (selector := peer.get("namespaceSelector")) is not None:
            places = {name for name, labels in namespaces.items() if selects(selector, labels)}
        else:
            places = {place}
        wanted = peer.get("podSelector") or {}
        found += [pod for pod in pods if pod.namespace in places and selects(wanted, dict(pod.labels))]
    return Peers(tuple(found), tuple(blocks))


def _statements(kind: str, subjects: list[Pod], others: Peers | None, ports: list[Object] | None) -> Iterator[str]:
    """Yield the statements that let one rule's traffic through."""
    own, foreign = ("daddr", "saddr") if kind == "ingress" else ("saddr", "daddr")
    addresses = {pod.address for pod in subjects}
    targets = subjects if kind == "ingress" else (list(others.pods) if others else [])
    for match, limited in _ports(ports, targets):
        ours = addresses if limited is None or kind == "egress" else addresses & limited
        base = f"ip {own} {_set(ours)}"
        if not ours:
            continue
        if others is None:
            yield f"{base} {match}return"
            continue
        theirs = {pod.address for pod in others.pods}
        if limited is not None and kind == "egress":
            theirs &= limited
        if theirs:
            yield f"{base} ip {foreign} {_set(theirs)} {match}return"
        if limited is None:
            for block, without in others.blocks:
                excepted = f"ip {foreign} != {_set(without)} " if without else ""
                within = "" if block == ANY else f"ip {foreign} {block} "
                yield f"{base} {within}{excepted}{match}return"


def _ports(ports: list[Object] | None, targets: list[Pod]) -> Iterator[tuple[str, set[str] | None]]:
    """Yield what matches each port; for a port with a name also the addresses of those that have it at that number."""
    if not ports:
        yield "", None
        return
    for each in ports:
        protocol, port = (each.get("protocol") or "TCP").lower(), each.get("port")
        if port is None:
            yield f"meta l4proto {protocol} ", None
        elif isinstance(port, int):
            last = f"-{each['endPort']}" if each.get("endPort") else ""
            yield f"{protocol} dport {port}{last} ", None
        else:
            numbers: dict[int, set[str]] = defaultdict(set)
            for pod in targets:
                for name, number in pod.ports:
                    if name == port:
                        numbers[number].add(pod.address)
            for number, addresses in numbers.items():
                yield f"{protocol} dport {number} ", addresses


def _set(values: Iterable[str]) -> str:
    return "{ " + ", ".join(sorted(values)) + " }"


class Follower:
    """All objects of one kind, kept up to date by a thread."""

    def __init__(self, listing: Callable[..., Any], changed: threading.Event) -> None:
        self._listing = listing
        self._changed = changed
        self._objects: dict[str, Object] = {}
        self.complete = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def objects(self) -> list[Object]:
        """The objects as they are now."""
        return list(self._objects.values())

    def _follow(self) -> None:
        plain = kubernetes.client.ApiClient().sanitize_for_serialization
        while True:
            try:
                found = self._listing()
                self._objects = {each.metadata.uid: plain(each) for each in found.items}
                self.complete.set()
                self._changed.set()
                version = found.metadata.resource_version
                for event in kubernetes.watch.Watch().stream(self._listing, resource_version=version):
                    uid = event["object"].metadata.uid
                    if event["type"] == "DELETED":
                        self._objects.pop(uid, None)
                    else:
                        self._objects = {**self._objects, uid: plain(event["object"])}
                    self._changed.set()
            except (kubernetes.client.ApiException, urllib3.exceptions.HTTPError) as error:
                logging.warning("list or watch failed, once more: %s", error)
                time.sleep(RETRY_SECONDS)


def main() -> None:
    """Enforce until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", required=True)
    kubernetes.config.load_kube_config(parser.parse_args().kubeconfig)
    core, networking = kubernetes.client.CoreV1Api(), kubernetes.client.NetworkingV1Api()
    changed = threading.Event()
    pods = Follower(core.list_pod_for_all_namespaces, changed)
    namespaces = Follower(core.list_namespace, changed)
    policies = Follower(networking.list_network_policy_for_all_namespaces, changed)
    for each in (pods, namespaces, policies):
        each.complete.wait()
    last = ""
    while True:
        changed.wait()
        time.sleep(SETTLE_SECONDS)
        changed.clear()
        labels = {each["metadata"]["name"]: each["metadata"].get("labels") or {} for each in namespaces.objects()}
        wanted = rules(pods_of(pods.objects()), labels, policies.objects())
        if wanted != last:
            result = subprocess.run(["nft", "--file", "-"], input=wanted, text=True, capture_output=True, check=False)
            if result.returncode:
                sys.exit(f"nft refuses the rules: {result.stderr}\n{wanted}")
            last = wanted


if __name__ == "__main__":
    main()
