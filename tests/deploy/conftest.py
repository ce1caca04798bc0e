"""What the tests of the installation share: programs that stand for kubectl and the rest, and the world they see."""

import base64
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import yaml

from k8s.install import cli, kind, preflight, waiting

PROGRAMS = ("kubectl", "helm", "kind", "docker", "make")
FAKE = Path(__file__).with_name("fake_program.py")
IMAGES = kind.image_names()
GIB = 2**30


class World:
    """The fake cluster and machine, before and after."""

    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.file = directory / "world.json"
        for program in PROGRAMS:
            script = self.bin / program
            script.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {FAKE} {program} "$@"\n')
            script.chmod(0o755)
        self.write(
            {
                "clusters": [],
                "contexts": ["elsewhere"],
                "objects": {},
                "lists": {},
                "rules": [],
                "done": [],
                "docker": {"MemTotal": 16 * GIB, "NCPU": 8, "ServerVersion": "29.0", "DockerRootDir": "/nowhere"},
                "images": {image: f"sha256:{number}" for number, image in enumerate(IMAGES)},
                "node": "node-1",
                "helm": "v3.22.0",
                "kubectl": "v1.36.0",
                "kubernetes": "v1.36.4",
                "ca": base64.b64encode(b"certificate 1").decode(),
                "airflow_port": 0,
            }
        )

    def read(self):
        return json.loads(self.file.read_text())

    def write(self, content):
        self.file.write_text(json.dumps(content))

    def change(self, **changes):
        self.write({**self.read(), **changes})

    def fail(self, match, error="it broke", **more):
        """From now on, calls that match fail (or hang)."""
        world = self.read()
        self.change(rules=[*world["rules"], {"match": match, "error": error, **more}])

    def calls(self):
        """All calls so far, as lines."""
        return [call["line"] for call in self.recorded()]

    def recorded(self):
        path = self.file.with_suffix(".calls")
        # The last line may still be on its way.
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def forget(self):
        """Start the record anew."""
        self.file.with_suffix(".calls").unlink(missing_ok=True)

    def changing(self):
        """Calls that change something."""
        asking = "get|version|config|info|inspect|image|wait|rollout status|port-forward"
        quiet = rf"^\w+( --(kube-)?context \S+)? ({asking})\b"
        return [line for line in self.calls() if not re.match(quiet, line)]

    def secrets(self):
        """Every secret: (namespace, name) to its values, decoded."""
        found = {}
        for key, data in self.read()["objects"].items():
            kind_, namespace, name = key.split("|")
            if kind_ == "secret":
                found[namespace, name] = {each: base64.b64decode(value).decode() for each, value in data.items()}
        return found


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A machine with Docker and no cluster."""
    made = World(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("FAKE_WORLD", str(made.file))
    monkeypatch.setenv("FAKE_LIBRARIES", str(Path(yaml.__file__).parents[1]))
    monkeypatch.setattr(kind, "LOADED", tmp_path / "kind-images.json")
    monkeypatch.setattr(preflight, "_free_memory", lambda: 16.0)
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0.01)
    return made


@pytest.fixture
def millrace(world, capfd):
    """Runs the command line in this process: returns its exit status and what it wrote."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*arguments):
        capfd.readouterr()
        try:
            status: object = cli.main(list(arguments))
        except SystemExit as error:  # argparse
            status = error.code
        written = capfd.readouterr()
        return status, written.out + written.err

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
