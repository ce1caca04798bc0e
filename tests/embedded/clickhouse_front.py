"""ClickHouse's HTTP interface in front of chDB, which is ClickHouse's engine as a library; a program of its own.

    python clickhouse_front.py PORT DIRECTORY [CERTIFICATE KEY]

It speaks as much of the interface as the sink and its tests use: a query in the address or the body, settings and
parameters in the address, the rows of an insert in the body, users by HTTP's basic authentication. What it can't know
of chDB is which user asks: the one that is allowed is in the environment (CLICKHOUSE_USERNAME, CLICKHOUSE_PASSWORD).
While the file `hold` is in DIRECTORY, inserts are carried out and not answered.
"""

import base64
import os
import re
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from chdb.session import Session

NOT_SETTINGS = ("query", "default_format", "wait_end_of_query", "database")
STATUSES = {516: 403, 60: 404, 81: 404, 62: 400, 47: 400, 117: 400, 27: 400, 349: 400}


class Engine:
    """chDB's one session of this process."""

    def __init__(self, directory: Path) -> None:
        self._session = Session(str(directory / "data"))
        self._lock = threading.Lock()
        self._hold = directory / "hold"

    def run(self, parameters: dict[str, str], body: bytes) -> bytes:
        query = parameters.get("query", "")
        settings = {
            name: value
            for name, value in parameters.items()
            if name not in NOT_SETTINGS and not name.startswith("param_")
        }
        given = ", ".join(f"{name} = '{value}'" for name, value in settings.items())
        if match := re.fullmatch(r"(INSERT INTO .+) FORMAT (\w+)", query):
            statement = f"{match[1]} SETTINGS {given} FORMAT {match[2]} {body.decode()}"
            answer = self._query(statement, {}, "")
            while self._hold.exists():
                time.sleep(0.02)
            return answer
        values = {name.removeprefix("param_"): value for name, value in parameters.items() if name.startswith("param_")}
        return self._query(f"{query}{body.decode()}", values, parameters.get("default_format", "TabSeparated"))

    def _query(self, statement: str, values: dict[str, str], kind: str) -> bytes:
        with self._lock:
            return bytes(self._session.query(statement, kind or "CSV", params=values).bytes())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: Engine

    def do_GET(self) -> None:
        self._answer(200, b"Ok.\n")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if not self._is_known():
            text = "Code: 516. DB::Exception: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
            return self._answer(STATUSES[516], text.encode(), 516)
        try:
            self._answer(200, self.engine.run(dict(parse_qsl(urlsplit(self.path).query)), body))
        except RuntimeError as error:  # what ChdbError is, of which chDB has two
            found = re.search(r"Code: (\d+)", str(error))
            code = int(found[1]) if found else 1002
            self._answer(STATUSES.get(code, 500), str(error).encode(), code)

    def _is_known(self) -> bool:
        user, password = (os.environ.get(f"CLICKHOUSE_{name}", "") for name in ("USERNAME", "PASSWORD"))
        if not user:
            return True
        expected = base64.b64encode(f"{user}:{password}".encode()).decode()
        return self.headers.get("authorization") == f"Basic {expected}"

    def _answer(self, status: int, body: bytes, code: int | None = None) -> None:
        self.send_response(status)
        if code is not None:
            self.send_header("x-clickhouse-exception-code", str(code))
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    port, directory, *certificate = sys.argv[1:]
    Handler.engine = Engine(Path(directory))
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
