"""The port of an operator: /metrics, and /healthy and /ready for the kubelet."""

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest


def serve(port: int, registry: CollectorRegistry, ready: Callable[[], bool]) -> ThreadingHTTPServer:
    """Serve from now on, in the background."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)
            elif self.path == "/ready":
                self._answer(200 if ready() else 503, b"")
            else:
                self._answer(200 if self.path in ("/healthy", "/healthz") else 404, b"")

        def log_message(self, *arguments: object) -> None:
            """Say nothing: the kubelet asks every few seconds."""

        def _answer(self, status: int, body: bytes, content: str = "text/plain") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            # Who asked may have gone.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    server = ThreadingHTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
