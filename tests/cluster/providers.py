"""The three places where the cluster's tests run, behind one interface (interface.py)."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from embedded.paths import REPOSITORY
from k8s.install import kind
from k8s.install.cluster import Cluster as Context
from k8s.install.pages import Forward
from tests.cluster.definitions import all_definitions
from tests.cluster.local.node import Node, local_node, why_not
from tests.cluster.prepare import prepare
from tests.kubernetes.plane import one_object

STANDINS = Path(__file__).parent / "standins"
INSTALL_SECONDS = 1800
KUBECTL_SECONDS = 300
KINDS = ("local", "kind", "existing")


class ProvidedCluster:
    """A cluster that answers, whoever made it."""

    kind = "existing"
    has_upstream = True

    def __init__(self, context: str, environment: dict[str, str]) -> None:
        self.context = context
        self.environment = environment
        """In which kubectl and helm are found, and find the cluster."""

    def kubectl(
        self, *arguments: str, check: bool = True, given: Any = None, namespace: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl; objects that are `given` are its standard input. Raises RuntimeError if it fails."""
        place = [f"--namespace={namespace}"] if namespace else []
        result = self._run("kubectl", f"--context={self.context}", *place, *arguments, given=one_object(given))
        if check and result.returncode:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {result.stderr.strip()}")
        return result

    def get(self, *arguments: str, namespace: str | None = None) -> dict[str, Any]:
        """Return what `kubectl get` finds."""
        return json.loads(self.kubectl("get", *arguments, "--output=json", namespace=namespace).stdout)

    def installer(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the installer, as `make install` and the others do."""
        command = [*arguments[:1], "--context", self.context, *self._sources(arguments[0]), *arguments[1:]]
        return self._run(sys.executable, "-m", "k8s.install", *command, seconds=INSTALL_SECONDS)

    def _sources(self, command: str) -> list[str]:
        return []

    @contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[str]:
        """The address of a port of a pod or service, on this machine."""
        command = ["port-forward", target, f":{port}", "--namespace", namespace]
        forward = Forward(Context(self.context).kubectl(*command))
        try:
            yield f"http://127.0.0.1:{forward.local_port()}"
        finally:
            forward.stop()

    def restart_kubelet(self) -> None:
        """Restart the node's kubelet. Raises NotImplementedError where the tests may not."""
        raise NotImplementedError("the nodes of a cluster that was there before are left alone")

    def _run(
        self, *command: str, given: Any = None, seconds: float = KUBECTL_SECONDS
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input="" if given is None else json.dumps(given),
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **self.environment},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )


class KindCluster(ProvidedCluster):
    """A cluster of kind, with the charts and images that `make kind-up` installs."""

    kind = "kind"

    def restart_kubelet(self) -> None:
        """Restart the kubelet of kind's only node."""
        self._run("docker", "exec", kind.NODE, "systemctl", "restart", "kubelet").check_returncode()


class LocalCluster(ProvidedCluster):
    """Our own node, with stand-ins for what can't be had there."""

    kind = "local"
    has_upstream = False

    def __init__(self, node: Node) -> None:
        super().__init__("test", node.environment)
        self.node = node

    def _sources(self, command: str) -> list[str]:
        if command != "install":
            return []
        return ["--charts", str(STANDINS / "charts"), "--more-values", str(STANDINS / "values")]

    def restart_kubelet(self) -> None:
        """Kill the kubelet and start it again; return when the node is ready."""
        self.node.stop_kubelet()
        self.node.start_kubelet()


class UnavailableError(Exception):
    """The cluster can't be had here; the message says why."""


@contextmanager
def provided(name: str) -> Iterator[ProvidedCluster]:
    """The cluster that CLUSTER names; what was made for it is gone after.

    Raises:
        UnavailableError: it can't be had here.
    """
    match name:
        case "local":
            if reason := why_not():
                raise UnavailableError(f"CLUSTER=local {reason}")
            # All that comes from a package registry comes now: the cluster's network leads nowhere.
            definitions, images = all_definitions(), prepare()
            with local_node() as node:
                node.load(images)
                node.define(definitions)
                node.wait_for_names()
                # This process is in the node's network, and so are its commands.
                with pytest.MonkeyPatch.context() as patch:
                    for variable, value in node.environment.items():
                        patch.setenv(variable, value)
                    yield LocalCluster(node)
        case "kind":
            missing = [each for each in ("docker", "kind", "kubectl", "helm") if shutil.which(each) is None]
            if missing:
                raise UnavailableError(f"CLUSTER=kind needs {', '.join(missing)}: docs/install.md says where from")
            made = not kind.exists()
            kind.up()
            try:
                yield KindCluster(kind.CLUSTER.context, {})
            finally:
                if made:
                    kind.down(yes=True)
        case "existing":
            context = os.environ.get("CONTEXT")
            if not context:
                raise UnavailableError("CLUSTER=existing needs CONTEXT, a context of your kubeconfig")
            yield ProvidedCluster(context, {})
        case _:
            raise UnavailableError(f"CLUSTER is {name!r}: take one of {', '.join(KINDS)}")
