"""Sees every change of objects as it comes, by a `kubectl get --watch` that runs beside the tests."""

import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.cluster.interface import Cluster


@dataclass(frozen=True)
class Change:
    """One change of one object."""

    at: float
    """Seconds since 1970 when it was seen."""
    kind: str
    """ADDED, MODIFIED or DELETED."""
    thing: dict[str, Any]

    @property
    def name(self) -> str:
        return self.thing["metadata"]["name"]


class Watch:
    """All changes since it was made, for as long as the `with` lasts."""

    def __init__(self, cluster: Cluster, kind: str, namespace: str, selector: str = "") -> None:
        self._command = ["kubectl", "--context", cluster.context, "get", kind, "--namespace", namespace]
        self._command += ["--watch", "--output-watch-events", "--output=json"]
        self._command += [f"--selector={selector}"] if selector else []
        self._environment = {**os.environ, **cluster.environment}
        self._changes: list[Change] = []
        self._ended = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"watch {kind}")

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._process:
            self._process.terminate()
        self._thread.join(30)

    @property
    def changes(self) -> list[Change]:
        """What was seen so far, oldest first."""
        return list(self._changes)

    def _run(self) -> None:
        while not self._ended.is_set():
            with subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            ) as self._process:
                self._read(self._process)
                self._process.terminate()
            # The API server ends each watch after a while.
            self._ended.wait(1)

    def _read(self, process: "subprocess.Popen[str]") -> None:
        for line in process.stdout or ():
            event = json.loads(line)
            if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                self._changes.append(Change(time.time(), event["type"], event["object"]))
