"""What the Spark operator and a driver do, said by the test: a SparkApplication's states, and a driver's own endpoint.

The operator's part is its status alone, in the order that its controller gives; the test makes and ends the pods.
"""

import json
from http.server import ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from embedded.ports import free_port
from streamkit import http_endpoint
from streamkit.telemetry import Telemetry
from tests.kubernetes.plane import ControlPlane

NAME = "event-windows"
BATCH = {
    "name": NAME,
    "runId": "run-1",
    "timestamp": "2026-01-01T00:00:00.000Z",
    "batchId": 1,
    "numInputRows": 30,
    "durationMs": {"triggerExecution": 1200},
    "eventTime": {"watermark": "2013-02-01T09:14:00.000Z"},
    "sources": [{"endOffset": {"events": {"0": 10, "1": 20}}}],
    "sink": {"numOutputRows": -1},
}


class Operator:
    """Reports the status of one SparkApplication."""

    def __init__(self, plane: ControlPlane, namespace: str, name: str = NAME) -> None:
        self._plane = plane
        self._namespace = namespace
        self._name = name

    def object(self) -> dict[str, Any] | None:
        """The SparkApplication as it is in the cluster."""
        arguments = ("--namespace", self._namespace, "--ignore-not-found", "--output=json", "--show-managed-fields")
        found = self._plane.kubectl("get", "sparkapplication", self._name, *arguments).stdout
        return json.loads(found) if found else None

    def uid(self) -> str | None:
        """What tells the SparkApplication from a later one."""
        found = self.object()
        return found["metadata"]["uid"] if found else None

    def suspended(self) -> bool:
        """Whether somebody asked to suspend it."""
        return bool((self.object() or {"spec": {}})["spec"].get("suspend"))

    def says(self, state: str, message: str = "", *, executions: int = 1, submissions: int = 1) -> None:
        """Report a state."""
        status = {
            "applicationState": {"state": state, "errorMessage": message},
            "driverInfo": {"podName": f"{self._name}-driver"},
            "executionAttempts": executions,
            "submissionAttempts": submissions,
            "lastSubmissionAttemptTime": "2026-01-01T00:00:00Z",
            "terminationTime": None,
        }
        arguments = ("--namespace", self._namespace, "--subresource=status", "--type=merge", "--patch-file=/dev/stdin")
        self._plane.kubectl("patch", "sparkapplication", self._name, *arguments, given={"status": status})


class Driver:
    """A driver's HTTP endpoint, the one of streamkit, on a free port; it listens once it is told to."""

    def __init__(self) -> None:
        self.port = free_port()
        self.telemetry = Telemetry(NAME)
        self._server: ThreadingHTTPServer | None = None

    def listens(self) -> None:
        """The driver has begun to serve, and has a query."""
        self._server = http_endpoint.serve(self.telemetry, "127.0.0.1", self.port)
        self.telemetry.onQueryStarted(SimpleNamespace(name=NAME, id="q-id", runId="run-1"))

    def reports(self, **changes: Any) -> None:
        """The query has finished a batch."""
        report = json.dumps({**BATCH, **changes})
        self.telemetry.onQueryProgress(SimpleNamespace(progress=SimpleNamespace(json=report)))

    def ends(self) -> None:
        """The driver's process is gone."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
