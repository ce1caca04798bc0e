"""Programs of the node: processes in its namespaces, with the same handle as any other of the tests."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cluster.local.namespaces import Namespaces
from tests.kubernetes.plane import Process


class InsideProcess(Process):
    """A program in a node's namespaces."""

    def __init__(
        self,
        namespaces: Namespaces,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._namespaces = namespaces
        self._name = name
        self._environment = environment or {}
        super().__init__(command, log)

    def _begin(self, command: Sequence[str | Path]) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.log.parent), **self._environment}
        self._namespaces.start(self._name, command, self.log, environment)

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._namespaces.status(self._name) is None

    def end(self) -> None:
        """End it at once."""
        self._namespaces.signal(self._name, signal.SIGKILL)
        while self.runs():
            time.sleep(0.05)
