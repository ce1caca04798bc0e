"""How requests to the Kubernetes API are sent again, and what is said if that does not help: against a real server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.errors import MillraceError, TemporaryError
from millrace.targets.cluster import JOB, Cluster


class Api:
    """Answers with the given statuses, one after the other, then with 200; keeps what was asked."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.asked: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                api.asked.append(self.command)
                status = api.statuses.pop(0) if api.statuses else 200
                body = (
                    {"kind": "Status", "message": f"it says {status}"} if status >= 400 else {"metadata": {"name": "j"}}
                )
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def cluster(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{api.server.server_port}"}}],
        "users": [{"name": "u", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return Cluster("streams")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_transient_refusal_is_asked_again(cluster: Cluster, api: Api, status: int) -> None:
    api.statuses = [status, status]
    assert cluster.get(JOB, "j") == {"metadata": {"name": "j"}}
    assert api.asked == ["GET"] * 3


def test_change_is_sent_again_too(cluster: Cluster, api: Api) -> None:
    api.statuses = [503]
    cluster.create(JOB, {"metadata": {"name": "j"}})
    assert api.asked == ["POST"] * 2


def test_what_does_not_pass_is_temporary(cluster: Cluster, api: Api) -> None:
    api.statuses = [503] * 5
    with pytest.raises(
        TemporaryError, match=r"can't read Job j in namespace streams now \(it says 503\): try again later"
    ):
        cluster.get(JOB, "j")
    assert len(api.asked) == 5


@pytest.mark.parametrize("status", [400, 405, 422])
def test_refusal_that_stays_is_said_at_once(cluster: Cluster, api: Api, status: int) -> None:
    api.statuses = [status]
    with pytest.raises(MillraceError, match=rf"refuses to create Job j .*\(it says {status}\): correct") as caught:
        cluster.create(JOB, {"metadata": {"name": "j"}})
    assert not isinstance(caught.value, TemporaryError)
    assert api.asked == ["POST"]


def test_client_is_made_once_for_a_kubeconfig(cluster: Cluster) -> None:
    assert Cluster("other")._client is cluster._client
