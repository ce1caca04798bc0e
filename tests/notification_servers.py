"""Local servers in the place of a mail server, Slack and PagerDuty: they speak their protocols, over TLS as those do,
and keep what they got.
"""

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from embedded.ports import free_port
from tests.certificates import Authority

KEY = "0123456789abcdef0123456789abcdef"
LOGIN, PASSWORD = "millrace", "correct horse"
WEBHOOK = "/services/T000/B000/XXX"


@dataclass
class Servers:
    """The three of them; each can be told to refuse."""

    authority: Path
    smtp_port: int
    http_port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)

    def clear(self) -> None:
        for kept in (self.mails, self.recipients, self.posts, self.events, self.refusing):
            kept.clear()

    def environment(self, *channels: str) -> dict[str, str]:
        """Airflow's connections as environment variables, of all channels or of these, and whom to trust."""
        email = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": self.smtp_port,
            "login": LOGIN,
            "password": PASSWORD,
            "extra": {
                "disable_ssl": True,
                "from_email": "millrace@example.org",
                "to": "ann@example.org, bob@example.org",
                "timeout": 10,
                "retry_limit": 1,
            },
        }
        base = f"https://127.0.0.1:{self.http_port}"
        every = {
            "email": email,
            "slack": {"conn_type": "slackwebhook", "password": f"{base}{WEBHOOK}"},
            "pagerduty": {"conn_type": "pagerduty_events", "host": base, "password": KEY},
        }
        wanted = channels or tuple(every)
        found = {f"AIRFLOW_CONN_ALERTS_{name.upper()}": json.dumps(every[name]) for name in wanted}
        return found | {"SSL_CERT_FILE": str(self.authority)}


class _Mailbox:
    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        if "email" in self._servers.refusing:
            return "554 5.7.1 refused on purpose"
        found = message_from_bytes(envelope.original_content or b"", policy=policy.default)
        assert isinstance(found, EmailMessage)
        self._servers.mails.append(found)
        self._servers.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    known = isinstance(data, LoginPassword) and (data.login, data.password) == (LOGIN.encode(), PASSWORD.encode())
    return AuthResult(success=known, handled=known)


def _handler(servers: Servers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Slack's incoming webhook and PagerDuty's Events API v2."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == WEBHOOK:
                self._slack(body)
            elif self.path == "/v2/enqueue":
                self._pagerduty(body)
            else:
                self._answer(404, b"no_service")

        def _slack(self, body: dict[str, Any]) -> None:
            if "slack" in servers.refusing:
                return self._answer(403, b"invalid_token")
            if not body.get("text"):
                return self._answer(400, b"no_text")
            servers.posts.append(body)
            self._answer(200, b"ok")

        def _pagerduty(self, body: dict[str, Any]) -> None:
            payload = body.get("payload", {})
            valid = body.get("routing_key") == KEY and body.get("event_action") == "trigger"
            if "pagerduty" in servers.refusing or not valid or not {"summary", "source", "severity"} <= payload.keys():
                problem = {"status": "invalid event", "message": "Event object is invalid", "errors": []}
                return self._answer(400, json.dumps(problem).encode())
            servers.events.append(body)
            answer = {"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]}
            self._answer(202, json.dumps(answer).encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler


@contextlib.contextmanager
def notification_servers(folder: Path) -> Iterator[Servers]:
    """Start the servers on free loopback ports, with certificates in a new folder; end them in the end."""
    authority = Authority(folder)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.sign("server", "server", server=True))
    servers = Servers(authority=authority.path, smtp_port=free_port())
    mail = Controller(
        _Mailbox(servers),
        hostname="127.0.0.1",
        port=servers.smtp_port,
        authenticator=_authenticate,
        tls_context=tls,
        require_starttls=True,
        auth_required=True,
    )
    mail.start()
    try:
        with ThreadingHTTPServer(("127.0.0.1", 0), _handler(servers)) as http:
            servers.http_port = http.server_address[1]
            http.socket = tls.wrap_socket(http.socket, server_side=True)
            thread = threading.Thread(target=http.serve_forever, daemon=True)
            thread.start()
            try:
                yield servers
            finally:
                http.shutdown()
                thread.join()
    finally:
        mail.stop()
