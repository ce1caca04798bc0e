"""The local node leaves nothing behind: not when it is asked to end, and not when whoever made it is killed."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedded.paths import REPOSITORY
from tests.cluster.local import groups
from tests.cluster.local.namespaces import MACHINE
from tests.cluster.local.node import PREFIX, remove_leftovers, why_not

START_SECONDS = 300
END_SECONDS = 60

pytestmark = [
    pytest.mark.skipif(os.environ.get("CLUSTER", "local") != "local", reason="CLUSTER is not local"),
    pytest.mark.skipif(why_not() is not None, reason=f"the local node {why_not()}"),
]


class Started:
    """A node of its own, started as a user does."""

    def __init__(self, log: Path) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cluster.local", "--bare"],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.folder = Path()

    def wait(self) -> None:
        """Wait until it says that it is ready, and with which script it can be entered."""
        deadline = time.monotonic() + START_SECONDS
        while not (said := re.search(r"^Ready\. (\S+)/enter ", self.log.read_text(), re.MULTILINE)):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.2)
        self.folder = Path(said[1])

    def processes(self) -> list[str]:
        """Command lines of all that runs for the node."""
        found = []
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = file.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if self.folder.name.encode() in command:
                found.append(command.replace(b"\0", b" ").decode())
        return found

    def groups(self) -> list[Path]:
        return [place / self.folder.name for place in groups.hierarchies() if (place / self.folder.name).exists()]


def outside() -> tuple[str, list[str]]:
    """What everybody else on this machine sees of such nodes: its links, and its mounts of their folders."""
    # The tests themselves are in the network of the cluster that they share.
    links = subprocess.run(
        ["nsenter", f"--net={MACHINE}", "ip", "-brief", "link"], capture_output=True, text=True, check=True
    ).stdout
    return links, [line for line in Path("/proc/1/mounts").read_text().splitlines() if PREFIX in line]


def test_nothing_is_left(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Two nodes at once, one for each way to end."""
    before = outside()
    nodes = {}
    for number in (signal.SIGTERM, signal.SIGKILL):
        nodes[number] = Started(tmp_path / number.name)
        request.addfinalizer(nodes[number].process.kill)
    for node in nodes.values():
        node.wait()
        assert any("kubelet" in command for command in node.processes())
        assert node.groups()
    assert outside() == before
    for number, node in nodes.items():
        node.process.send_signal(number)
    for node in nodes.values():
        node.process.wait(END_SECONDS)
        deadline = time.monotonic() + END_SECONDS
        while node.processes():
            assert time.monotonic() < deadline, node.processes()
            time.sleep(0.1)
    # What was asked to end has left nothing. Files and empty control groups outlive a kill; whoever starts the next
    # node removes them.
    assert not nodes[signal.SIGTERM].folder.exists()
    assert not nodes[signal.SIGTERM].groups()
    remove_leftovers()
    assert not nodes[signal.SIGKILL].folder.exists()
    assert not nodes[signal.SIGKILL].groups()
    assert outside() == before
