"""What the tests of this folder know of a cluster, whichever kind it is."""

from contextlib import AbstractContextManager
from subprocess import CompletedProcess
from typing import Any, Literal, Protocol


class Cluster(Protocol):
    """A cluster that runs, with none or all of Millrace in it. The fixture `cluster` yields one for the session."""

    @property
    def kind(self) -> Literal["local", "kind", "existing"]:
        """How it came to be."""
        ...

    @property
    def context(self) -> str:
        """Its context in the kubeconfig."""
        ...

    @property
    def environment(self) -> dict[str, str]:
        """What child processes need besides the environment of the tests, such as KUBECONFIG and PATH."""
        ...

    @property
    def has_upstream(self) -> bool:
        """Whether others' charts and images are the real ones, and not stand-ins."""
        ...

    def kubectl(
        self, *arguments: str, check: bool = True, given: Any = None, namespace: str | None = None
    ) -> CompletedProcess[str]:
        """Run kubectl as the administrator. Objects that are `given` are its standard input, as JSON.

        Raises RuntimeError, with what it said, if it fails and `check` isn't False.
        """
        ...

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what `kubectl get` finds, an object or a list."""
        ...

    def installer(self, *arguments: str) -> CompletedProcess[str]:
        """Run the installer in this cluster: a command and its options, without --context; does not raise.

        A cluster of stand-ins adds their charts and values itself, before what is given here: later values win.
        """
        ...

    def forward(self, namespace: str, target: str, port: int) -> AbstractContextManager[str]:
        """Make a port of a pod or service reachable as `http://127.0.0.1:<port>`.

        Raises RuntimeError or UserError if nothing is there to lead to. The way ends with the pod that it led to.
        """
        ...

    def restart_kubelet(self) -> None:
        """End the node's kubelet and start it again. Raises NotImplementedError where the tests may not."""
        ...
