"""What a kubelet does, said by the test: a pod starts, runs, ends; and its log is read from its node.

Nothing runs in these pods. The log is served over HTTPS at the node's address, as the API server asks for it.
"""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.kubernetes.plane import ControlPlane

NODE = "node-of-the-tests"


class Kubelet:
    """Reports the status of pods of one namespace, and serves their logs."""

    def __init__(self, plane: ControlPlane, namespace: str, logs: dict[str, bytes]) -> None:
        self._plane = plane
        self._namespace = namespace
        self._logs = logs

    def driver(self, name: str, application: dict[str, Any] | None = None) -> str:
        """Make an application's driver pod as the Spark operator does, on the node; return its name."""
        pod = f"{name}-driver"
        metadata: dict[str, Any] = {
            "name": pod,
            "namespace": self._namespace,
            "labels": {"sparkoperator.k8s.io/app-name": name, "spark-role": "driver"},
            "annotations": {},
        }
        if application:
            owner = {key: application["metadata"][key] for key in ("name", "uid")}
            kind = {"apiVersion": application["apiVersion"], "kind": "SparkApplication"}
            metadata["ownerReferences"] = [{**kind, **owner, "controller": True, "blockOwnerDeletion": True}]
            metadata["annotations"] = application["spec"]["driver"]["annotations"]
        self._plane.kubectl("create", "-f", "-", given=_pod(metadata))
        return pod

    def runs(self, pod: str) -> None:
        """The pod's program runs; its address is this machine."""
        running = [_container(ready=True, state={"running": {"startedAt": "2026-01-01T00:00:00Z"}})]
        self._report(pod, {"phase": "Running", "podIP": "127.0.0.1", "containerStatuses": running})

    def waits(self, pod: str, reason: str, message: str = "") -> None:
        """The pod's program can't be started."""
        waiting = [_container(ready=False, state={"waiting": {"reason": reason, "message": message}})]
        self._report(pod, {"phase": "Pending", "containerStatuses": waiting})

    def finds_no_node(self, pod: str, message: str) -> None:
        """The scheduler has found no place for the pod."""
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self._report(pod, {"phase": "Pending", "conditions": [condition]})

    def ends(self, pod: str, code: int = 0, message: str = "", reason: str = "") -> None:
        """The pod's program has ended."""
        ended = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "message": message}
        state = {"terminated": {**ended, "finishedAt": "2026-01-01T00:00:09Z", "startedAt": "2026-01-01T00:00:00Z"}}
        phase = "Failed" if code else "Succeeded"
        self._report(pod, {"phase": phase, "podIP": None, "containerStatuses": [_container(ready=False, state=state)]})

    def is_gone(self, pod: str) -> None:
        """The node has removed the pod: only then it disappears from the API."""
        arguments = ("--namespace", self._namespace, "--grace-period=0", "--force", "--ignore-not-found")
        self._plane.kubectl("delete", "pod", pod, *arguments)

    def writes(self, pod: str, text: str) -> None:
        """The pod's program writes to its log."""
        self._logs[f"{self._namespace}/{pod}"] = self._logs.get(f"{self._namespace}/{pod}", b"") + text.encode()

    def begins_log_anew(self, pod: str) -> None:
        """The log is rotated."""
        self._logs[f"{self._namespace}/{pod}"] = b""

    def assign(self, pod: str) -> None:
        """Put a pod that a controller has made on the node, as the scheduler does."""
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod, "namespace": self._namespace}}
        target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod}/binding"
        self._plane.kubectl("create", "--raw", path, "-f", "-", given={**binding, "target": target})

    def _report(self, pod: str, status: dict[str, Any]) -> None:
        arguments = ("--namespace", self._namespace, "--subresource=status", "--type=merge", "--patch-file=/dev/stdin")
        self._plane.kubectl("patch", "pod", pod, *arguments, given={"status": status})


def _container(**status: Any) -> dict[str, Any]:
    return {"name": "main", "image": "none", "imageID": "", "restartCount": 0, **status}


def _pod(metadata: dict[str, Any]) -> dict[str, Any]:
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "main", "image": "none", "securityContext": security}
    whole = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "containers": [container],
        "securityContext": whole,
        "nodeName": NODE,
        "restartPolicy": "Never",
        "serviceAccountName": "spark",
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@contextmanager
def node(plane: ControlPlane, logs: dict[str, bytes]) -> Iterator[None]:
    """A node whose address is this machine's, where the API server finds the logs: `<namespace>/<pod>` to bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, kind, name, pod, *_ = urlsplit(self.path).path.split("/")
            body = logs.get(f"{name}/{pod}")
            self.send_response(200 if kind == "containerLogs" and body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    certificate, key = plane.authority.sign("kubelet", "kubelet", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(certificate), Path(key))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    plane.kubectl("apply", "-f", "-", given={"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_port}},
    }
    patch = ("--subresource=status", "--type=merge", "--patch-file=/dev/stdin")
    plane.kubectl("patch", "node", NODE, *patch, given={"status": status})
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
