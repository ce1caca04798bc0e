"""A registry of images on loopback, as far as pulling goes: what a layout holds, under its names.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.cluster.layout import Layout

DOMAIN = "docker.io"
"""Whose images these are, by their names."""
ASKED = re.compile(r"/v2/(?P<repository>[a-z0-9/._-]+)/(?P<what>manifests|blobs)/(?P<reference>[\w:.-]+)(\?.*)?")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@contextmanager
def serving(layout: Layout) -> Iterator[str]:
    """Serve a layout's images in this thread's network; the registry's address, `http://127.0.0.1:<port>`."""
    handler = type("Handler", (_Handler,), {"layout": layout})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    layout: Layout
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, *, with_content: bool) -> None:
        found = self._find()
        if found is None:
            error = {"errors": [{"code": "NAME_UNKNOWN", "message": f"nothing is at {self.path}"}]}
            self._send(json.dumps(error).encode(), "application/json", HTTPStatus.NOT_FOUND, with_content=with_content)
        elif isinstance(found, bytes):
            self._send(found, "application/json", with_content=with_content)
        else:
            digest, media_type = found
            self._send(self.layout.path(digest), media_type, digest=digest, with_content=with_content)

    def _find(self) -> bytes | tuple[str, str] | None:
        """What is asked for: a text, or the digest and the media type of an image's part; None if it is not there."""
        if self.path == "/v2/":
            return b"{}"
        asked = ASKED.fullmatch(self.path)
        if asked is None:
            return None
        reference = asked["reference"]
        named = {
            each: self.layout.find(each)
            for each in self.layout.names
            if each.startswith(f"{DOMAIN}/{asked['repository']}:")
        }
        if asked["what"] == "manifests":
            for name, entry in named.items():
                if entry and reference in (name.rpartition(":")[2], entry["digest"]):
                    return entry["digest"], entry["mediaType"]
        elif named and DIGEST.fullmatch(reference) and self.layout.path(reference).exists():
            return reference, "application/octet-stream"
        return None

    def _send(
        self,
        content: bytes | Path,
        media_type: str,
        status: HTTPStatus = HTTPStatus.OK,
        *,
        digest: str = "",
        with_content: bool,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content) if isinstance(content, bytes) else content.stat().st_size))
        if digest:
            self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if with_content and isinstance(content, bytes):
            self.wfile.write(content)
        elif with_content and isinstance(content, Path):
            with content.open("rb") as file:
                shutil.copyfileobj(file, self.wfile, 2**20)

    def log_message(self, *_: Any) -> None:
        """Say nothing of each request."""
