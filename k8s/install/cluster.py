"""A cluster, as kubectl sees it by one context."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from k8s.install.runner import ask_json, run


@dataclass(frozen=True)
class Cluster:
    """Where commands go."""

    context: str
    """Of the kubeconfig."""

    def kubectl(self, *arguments: str) -> list[str]:
        """A command of kubectl for this cluster."""
        return ["kubectl", "--context", self.context, *arguments]

    def helm(self, *arguments: str) -> list[str]:
        """A command of helm for this cluster."""
        return ["helm", "--kube-context", self.context, *arguments]

    def existing(self, kind: str, names: Iterable[str], namespace: str = "") -> set[str]:
        """Which of the named objects exist. Raises CommandError if the cluster does not answer."""
        wanted = list(names)
        if not wanted:
            return set()
        place = ["--namespace", namespace] if namespace else []
        command = self.kubectl("get", kind, *wanted, *place, "--ignore-not-found", "--output", "name")
        return {line.rpartition("/")[2] for line in run(command).split()}

    def items(self, kind: str, namespace: str, *arguments: str) -> list[dict[str, Any]]:
        """All objects of a kind in a namespace. Raises CommandError."""
        command = self.kubectl("get", kind, "--namespace", namespace, *arguments, "--output", "json")
        return ask_json(command)["items"]

    def secrets(self, names: Iterable[str], namespace: str) -> dict[str, dict[str, str]]:
        """The data of those of the secrets that exist, by name, each value still in base64. Raises CommandError."""
        place = ["--namespace", namespace, "--ignore-not-found", "--output", "json"]
        text = run(self.kubectl("get", "secret", *names, *place))
        if not text.strip():
            return {}
        found = json.loads(text)
        # One name gets the object, several get a list of them.
        return {each["metadata"]["name"]: each.get("data") or {} for each in found.get("items", [found])}

    def secret(self, name: str, namespace: str) -> dict[str, str]:
        """One secret's data, each value still in base64; empty if there is no such secret. Raises CommandError."""
        return self.secrets([name], namespace).get(name, {})
