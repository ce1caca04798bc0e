"""The driver's HTTP endpoint: /metrics for Prometheus, /healthz, and /progress for whoever follows the app."""

import json
import os
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from streamkit.settings import SettingsError
from streamkit.telemetry import Telemetry


def address(environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Return host and port from MILLRACE_METRICS_HOST and MILLRACE_METRICS_PORT. Raises SettingsError."""
    text = environment.get("MILLRACE_METRICS_PORT", "8090")
    if not text.isdecimal() or int(text) > 65535:
        raise SettingsError(f"MILLRACE_METRICS_PORT: {text!r}: expected a port number (0 for any free one)")
    return environment.get("MILLRACE_METRICS_HOST", "0.0.0.0"), int(text)  # noqa: S104  (a pod is scraped from outside)


def serve(telemetry: Telemetry, host: str, port: int) -> ThreadingHTTPServer:
    """Serve in a daemon thread until `.shutdown()`; `.server_port` is the port. Raises SettingsError if it is taken."""

    class Handler(BaseHTTPRequestHandler):
        """Answers the three paths."""

        def do_GET(self) -> None:
            """Answer one request."""
            url = urlsplit(self.path)
            if url.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(telemetry.metrics.registry))
            elif url.path == "/healthz":
                self._json(200, {"status": "ok"})
            elif url.path == "/progress":
                last = parse_qs(url.query).get("last", [""])[0]
                if last and not (last.isdecimal() and int(last)):
                    self._json(400, {"error": "last: expected a number of reports, 1 or more"})
                else:
                    self._json(200, telemetry.progress(int(last) if last else None))
            else:
                self._json(404, {"error": "expected /metrics, /healthz or /progress"})

        def _json(self, status: int, body: dict[str, Any]) -> None:
            self._answer(status, "application/json", json.dumps(body).encode())

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep requests out of the log."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise SettingsError(
            f"metrics endpoint: cannot listen on {host}:{port} ({error.strerror}): set MILLRACE_METRICS_PORT"
        ) from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
