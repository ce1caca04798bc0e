"""A target on an empty home, and drivers that are small real programs."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from millrace.config import load_settings
from millrace.targets import embedded
from millrace.targets.embedded import EmbeddedTarget
from millrace.targets.state import AppDirectory, is_alive, signal_group

MANIFEST = """
apiVersion: sparkoperator.k8s.io/v1beta2
kind: SparkApplication
metadata: {name: sample}
spec:
  type: Python
  mainApplicationFile: local:///opt/millrace/driver.py
  restartPolicy: %s
"""

# Counts its starts, notes if another one runs at the same time, and ends when it is asked to by the control file.
DRIVER = """
import fcntl, os, signal, sys, tempfile, time
from pathlib import Path
folder, behaviour = Path(sys.argv[1]), sys.argv[2]
alone = open(folder / "alone", "a")
try:
    fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    (folder / "overlap").touch()
print("driver", os.getpid(), behaviour, flush=True)
scratch = Path(tempfile.mkdtemp())
with open(folder / "scratch", "a") as places:
    places.write(f"{scratch} {len(list(scratch.parent.iterdir()))} {os.environ['SPARK_SUBMIT_OPTS']}\\n")
with open(folder / "starts", "a") as starts:
    starts.write(f"{os.getpid()} {os.environ['MILLRACE_METRICS_HOST']}:{os.environ['MILLRACE_METRICS_PORT']}\\n")
if behaviour.startswith("exit"):
    sys.exit(int(behaviour[4:]))
if behaviour == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
control = Path(os.environ["MILLRACE_STORAGE"].removeprefix("file://")) / "control" / "sample" / "stop"
while behaviour == "stubborn" or not control.exists():
    time.sleep(0.02)
"""


def eventually(condition: Callable[[], object], seconds: float = 30) -> object:
    """Wait until a condition holds; return what it gave."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.02)
    return result


def lives(pid: float) -> bool:
    """True if a process runs; one that has ended and waits for its parent to notice does not."""
    try:
        return psutil.Process(int(pid)).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """MILLRACE_HOME; whatever still runs from it is ended afterwards, by its own process id."""
    folder = tmp_path / "home"
    monkeypatch.setenv("MILLRACE_TARGET", "embedded")
    monkeypatch.setenv("MILLRACE_HOME", str(folder))
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{folder}/storage")
    monkeypatch.delenv("MILLRACE_SPARK_JARS", raising=False)
    yield folder
    for apps in (folder / "apps").glob("*"):
        status = AppDirectory(apps).read_status()
        for key in ("runner", "driver"):
            signal_group(status.get(key), signal.SIGKILL)


@pytest.fixture
def target(home: Path) -> EmbeddedTarget:
    return EmbeddedTarget(load_settings())


class Application:
    """An application whose driver is a small Python program instead of Spark; all else is the real thing."""

    def __init__(self, target: EmbeddedTarget, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.target = target
        self.folder = folder
        self.directory = AppDirectory(target._apps / "sample")
        self.manifest = folder / "application.yaml"
        self._monkeypatch = monkeypatch
        self._driver = folder / "driver.py"
        self._driver.write_text(DRIVER)

    def prepare(self, behaviour: str, policy: str = "{type: Never}") -> None:
        self.manifest.write_text(MANIFEST % policy)
        command = [sys.executable, str(self._driver), str(self.folder), behaviour]
        self._monkeypatch.setattr(embedded, "submit_command", lambda *_: command)

    def start(self, owner: str = "dag/run", behaviour: str = "wait", policy: str = "{type: Never}") -> object:
        self.prepare(behaviour, policy)
        return self.target.start_application(self.manifest, owner)

    def starts(self) -> list[int]:
        """Process ids of all drivers that have begun, oldest first."""
        file = self.folder / "starts"
        return [int(line.split()[0]) for line in file.read_text().splitlines()] if file.exists() else []

    def addresses(self) -> list[str]:
        return [line.split()[1] for line in (self.folder / "starts").read_text().splitlines()]

    def state(self) -> str:
        return self.target.application_status("sample").state

    def wait_for_starts(self, number: int) -> list[int]:
        eventually(lambda: len(self.starts()) >= number)
        return self.starts()

    def overlapped(self) -> bool:
        return (self.folder / "overlap").exists()

    def kill(self, who: str) -> None:
        """SIGKILL the `runner` or the `driver`, and wait until it is gone."""
        identity = self.directory.read_status()[who]
        os.kill(int(identity["pid"]), signal.SIGKILL)
        eventually(lambda: not is_alive(identity))


@pytest.fixture
def application(target: EmbeddedTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Application:
    return Application(target, tmp_path, monkeypatch)
