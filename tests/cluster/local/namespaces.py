"""A node's own network, mounts and processes on this machine; they go away with the process that made them.

Nothing of the node is visible outside, and nothing inside gets out: its network has its own loopback device, links and
firewall rules, and no way to any other.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedded.paths import REPOSITORY

NETWORK_NAMESPACE = 0x40000000
"""CLONE_NEWNET of <sched.h>."""

MACHINE = Path(f"/proc/{os.getpid()}/fd/{os.open('/proc/self/ns/net', os.O_RDONLY)}")
"""This machine's own network, held from before any other is joined."""


class NodeError(Exception):
    """The node's namespaces, or a program in them, did not do as they were told."""


class Namespaces:
    """Namespaces with a supervisor in them, which runs programs."""

    def __init__(self) -> None:
        supervisor = [sys.executable, "-m", "tests.cluster.local.supervisor"]
        self._process = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", *supervisor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            start_new_session=True,
        )
        self.run("true")

    @property
    def process(self) -> int:
        """This machine's id of the supervisor."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return int(children[0])

    @property
    def network(self) -> Path:
        """The network namespace."""
        return Path(f"/proc/{self.process}/ns/net")

    def run(self, *command: str | Path) -> str:
        """Run a command inside, to its end; return what it writes. Raises NodeError if it fails."""
        answer = self._order(do="run", command=[*map(str, command)])
        if answer["status"]:
            raise NodeError(f"{' '.join(map(str, command))}: {answer['output'].strip()}")
        return answer["output"]

    def start(self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        """Start a program inside."""
        words = [*map(str, command)]
        words[0] = shutil.which(words[0]) or words[0]
        self._order(do="start", name=name, command=words, log=str(log), environment=dict(environment))

    def status(self, name: str) -> int | None:
        """Return the exit status of a program; None while it runs."""
        return self._order(do="status", name=name)["status"]

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a program."""
        self._order(do="signal", name=name, number=int(number))

    def end(self) -> None:
        """End everything inside."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """This process, and what it starts meanwhile, is in the network inside; threads that run already are not."""
        _enter(self.network)
        try:
            yield
        finally:
            _enter(MACHINE)

    def _order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise NodeError("the node's namespaces could not be made, or have ended: root is needed, and util-linux")
        answer = json.loads(line)
        if "error" in answer:
            raise NodeError(f"{order['do']} {order.get('name', '')}: {answer['error']}")
        return answer


def _enter(network: Path) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    with network.open("rb") as opened:
        failed = library.setns(opened.fileno(), NETWORK_NAMESPACE)
    if failed:
        raise NodeError(f"the node's network can't be joined: {os.strerror(ctypes.get_errno())}")
