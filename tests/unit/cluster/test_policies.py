"""What the local cluster's enforcer makes of NetworkPolicies."""

import os
import shutil
import subprocess
from typing import Any

import pytest

from tests.cluster.local.policies import pods_of, rules, selects

NAMESPACES = {"data": {"kubernetes.io/metadata.name": "data"}, "apps": {"kubernetes.io/metadata.name": "apps"}}


def pod(namespace: str, name: str, address: str, **ports: int) -> dict[str, Any]:
    containers = [{"name": "main", "ports": [{"name": each, "containerPort": at} for each, at in ports.items()]}]
    return {
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
        "spec": {"containers": containers},
        "status": {"podIP": address, "phase": "Running"},
    }


PODS = [
    pod("data", "broker", "10.0.0.1", tls=9093),
    pod("data", "broker", "10.0.0.2", tls=9094),
    pod("apps", "stream", "10.0.0.3"),
    pod("apps", "other", "10.0.0.4"),
]


def policy(namespace: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": "policy"}, "spec": spec}


def chain(name: str, *policies: dict[str, Any]) -> list[str]:
    """The statements of one chain."""
    lines = rules(pods_of(PODS), NAMESPACES, policies).splitlines()
    begin = lines.index(f"  chain {name} {{")
    return [line.strip() for line in lines[begin + 1 : lines.index("  }", begin)]]


def test_nothing_is_denied_without_a_policy() -> None:
    assert chain("forward")[1:] == ["ct state established,related accept"]


def test_default_deny_isolates_the_namespace_in_both_directions() -> None:
    deny = policy("apps", podSelector={}, policyTypes=["Ingress", "Egress"])
    assert chain("forward", deny)[2:] == [
        "ip saddr { 10.0.0.3, 10.0.0.4 } jump egress",
        "ip daddr { 10.0.0.3, 10.0.0.4 } jump ingress",
    ]
    assert chain("ingress", deny) == ["drop"]
    assert chain("egress", deny) == ["drop"]
    # What goes to the node itself is the pods' egress, too.
    assert chain("input", deny)[2:] == ["ip saddr { 10.0.0.3, 10.0.0.4 } jump egress"]


def test_named_port_is_each_pods_own() -> None:
    peer = {"namespaceSelector": {"matchLabels": NAMESPACES["apps"]}, "podSelector": {"matchLabels": {"app": "stream"}}}
    into = policy("data", podSelector={}, ingress=[{"from": [peer], "ports": [{"port": "tls"}]}])
    assert chain("ingress", into) == [
        "ip daddr { 10.0.0.1 } ip saddr { 10.0.0.3 } tcp dport 9093 return",
        "ip daddr { 10.0.0.2 } ip saddr { 10.0.0.3 } tcp dport 9094 return",
        "drop",
    ]
    assert chain("egress", into) == ["drop"]
    assert "jump egress" not in " ".join(chain("forward", into))


def test_pod_selector_alone_means_the_policys_own_namespace() -> None:
    wanted = {"podSelector": {"matchLabels": {"app": "stream"}}}
    foreign = policy("data", podSelector={}, ingress=[{"from": [wanted]}])
    assert chain("ingress", foreign) == ["drop"]
    own = policy("apps", podSelector={"matchLabels": {"app": "other"}}, ingress=[{"from": [wanted]}])
    assert chain("ingress", own) == ["ip daddr { 10.0.0.4 } ip saddr { 10.0.0.3 } return", "drop"]


def test_blocks_exceptions_ranges_and_protocols() -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
    ports = [{"port": 53, "protocol": "UDP"}, {"port": 1000, "endPort": 2000}]
    out = policy("apps", podSelector={"matchLabels": {"app": "other"}}, egress=[{"to": [block], "ports": ports}])
    assert chain("egress", out) == [
        "ip saddr { 10.0.0.4 } ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16 } udp dport 53 return",
        "ip saddr { 10.0.0.4 } ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16 } tcp dport 1000-2000 return",
        "drop",
    ]


def test_a_pod_that_has_ended_or_has_the_nodes_address_is_nobody() -> None:
    ended, on_node = pod("apps", "a", "10.0.0.5"), pod("apps", "b", "10.0.0.6")
    ended["status"]["phase"] = "Succeeded"
    on_node["spec"]["hostNetwork"] = True
    assert pods_of([ended, on_node]) == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"operator": "In", "values": ["a", "b"]}, True),
        ({"operator": "NotIn", "values": ["a"]}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "DoesNotExist"}, False),
    ],
)
def test_expressions_of_selectors(expression: dict[str, Any], expected: bool) -> None:
    assert selects({"matchExpressions": [{"key": "app", **expression}]}, {"app": "a"}) is expected


@pytest.mark.skipif(shutil.which("nft") is None or os.geteuid() != 0, reason="needs nft, and root")
def test_nft_takes_the_table() -> None:
    wanted = rules(
        pods_of(PODS),
        NAMESPACES,
        [
            policy("apps", podSelector={}, policyTypes=["Ingress", "Egress"]),
            policy("data", podSelector={}, ingress=[{"ports": [{"port": "tls"}]}], egress=[{}]),
            policy(
                "apps",
                podSelector={},
                egress=[{"to": [{"ipBlock": {"cidr": "10.96.0.0/24"}}], "ports": [{"protocol": "UDP"}]}],
            ),
        ],
    )
    result = subprocess.run(
        ["unshare", "--net", "nft", "--file", "-"], input=wanted, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
