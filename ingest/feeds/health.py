"""One port for what watches a feed: `/healthz` (alive), `/readyz` (connected) and `/metrics`."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson
import prometheus_client

from ingest.errors import BadInputError
from ingest.feeds.report import Report

JSON = "application/json"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, host: str, report: Report, registry: prometheus_client.CollectorRegistry) -> None:
        self.report, self.registry = report, registry
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        report = self.server.report
        match self.path.partition("?")[0]:
            case "/healthz":
                self._answer(200 if report.alive else 503, report.state())
            case "/readyz":
                self._answer(200 if report.alive and report.ready else 503, report.state())
            case "/metrics":
                page = prometheus_client.generate_latest(self.server.registry)
                self._write(200, prometheus_client.CONTENT_TYPE_LATEST, page)
            case _:
                self._answer(404, {"paths": ["/healthz", "/readyz", "/metrics"]})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._write(status, JSON, orjson.dumps(body) + b"\n")

    def _write(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe every few seconds is no news."""


def serve(
    port: int,
    report: Report,
    registry: prometheus_client.CollectorRegistry,
    host: str = "0.0.0.0",  # noqa: S104 - probed and scraped at the pod's address
) -> ThreadingHTTPServer:
    """Serve the three paths in a thread of their own; raises BadInputError if the port can't be used."""
    try:
        server = _Server(port, host, report, registry)
    except (OSError, OverflowError) as error:
        raise BadInputError(
            f"health and metrics can't be served on port {port} ({error}): choose another --metrics-port."
        ) from error
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
