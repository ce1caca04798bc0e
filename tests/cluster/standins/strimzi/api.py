"""What the stand-in asks of Kubernetes' API server: five verbs on plain objects."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SECONDS = 30
WATCH_SECONDS = 240
JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

_GROUPS = {
    "/api/v1": ("ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "Service", "ServiceAccount"),
    "/apis/apps/v1": ("Deployment",),
    "/apis/kafka.strimzi.io/v1": ("Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser"),
    "/apis/policy/v1": ("PodDisruptionBudget",),
    "/apis/rbac.authorization.k8s.io/v1": ("Role", "RoleBinding"),
}
GROUP_OF = {kind: group for group, kinds in _GROUPS.items() for kind in kinds}

Object = dict[str, Any]


class ApiError(Exception):
    """The API server refused, or could not be reached. The message is a sentence; status is None for the second."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """A connection as one service account. Its token is renewed from time to time, so each request reads it anew."""

    def __init__(self, server: str, authority: Path, token: Path, manager: str) -> None:
        self._server, self._token, self._manager = server, token, manager
        self._pool = urllib3.PoolManager(ca_certs=str(authority), maxsize=8, retries=False)

    @classmethod
    def in_pod(cls, manager: str) -> "Api":
        """Return the connection of the pod that this runs in. Fields that it applies are `manager`'s."""
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        return cls(f"https://{host}:{port}", ACCOUNT / "ca.crt", ACCOUNT / "token", manager)

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object; None if there is no such."""
        try:
            return self._ask("GET", address(kind, namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def find(self, kind: str, namespace: str, labels: str = "") -> list[Object]:
        """Return the objects of a kind that have these labels (`name=value,...`)."""
        return self._list(kind, namespace, labels)[0]

    def create(self, value: Object) -> Object | None:
        """Make an object; None if there is one of that name already."""
        try:
            return self._ask("POST", address(value["kind"], value["metadata"]["namespace"]), value)
        except ApiError as error:
            if error.status == 409:
                return None
            raise

    def apply(self, value: Object) -> Object:
        """Make an object be so: what it doesn't say, and this manager doesn't have said before, is left as it is."""
        where = address(value["kind"], value["metadata"]["namespace"], value["metadata"]["name"])
        query = {"fieldManager": self._manager, "force": "true"}
        return self._ask("PATCH", f"{where}?{urlencode(query)}", value, APPLY)

    def patch(self, of: Object, change: Object, part: str = "") -> Object:
        """Merge a change into an object, or into a part of it (`status`)."""
        where = address(of["kind"], of["metadata"]["namespace"], of["metadata"]["name"])
        return self._ask("PATCH", f"{where}/{part}".rstrip("/"), change, MERGE)

    def delete(self, kind: str, metadata: Mapping[str, Any]) -> None:
        """Delete this very object, and not one of the same name that came after it."""
        body = {"preconditions": {"uid": metadata["uid"]}}
        try:
            self._ask("DELETE", address(kind, metadata["namespace"], metadata["name"]), body)
        except ApiError as error:
            if error.status not in (404, 409):
                raise

    def follow(self, kind: str, namespace: str, labels: str = "") -> Iterator[tuple[str, Object]]:
        """Yield all objects of a kind (`LISTED`), then `SYNCED`, then what happens (`ADDED`, `MODIFIED`, `DELETED`).

        Ends when the API server ends it, which it does from time to time. Raises ApiError.
        """
        items, version = self._list(kind, namespace, labels)
        yield from (("LISTED", each) for each in items)
        yield "SYNCED", {}
        while True:
            query = {"watch": "1", "labelSelector": labels, "resourceVersion": version}
            query |= {"timeoutSeconds": str(WATCH_SECONDS), "allowWatchBookmarks": "true"}
            response = self._send("GET", f"{address(kind, namespace)}?{urlencode(query)}", stream=True)
            try:
                for event in _lines(response):
                    if event["type"] == "ERROR":
                        return
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event["type"], {**event["object"], "kind": kind}
            finally:
                response.release_conn()

    def _list(self, kind: str, namespace: str, labels: str) -> tuple[list[Object], str]:
        query = f"?{urlencode({'labelSelector': labels})}" if labels else ""
        answer = self._ask("GET", address(kind, namespace) + query)
        # The objects of a list don't say of what kind they are.
        items = [{"apiVersion": answer["apiVersion"], **each, "kind": kind} for each in answer["items"]]
        return items, answer["metadata"]["resourceVersion"]

    def _ask(self, method: str, path: str, body: Object | None = None, content: str = JSON) -> Object:
        return json.loads(self._send(method, path, body, content).data)

    def _send(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        content: str = JSON,
        stream: bool = False,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}", "Content-Type": content}
        try:
            response = self._pool.request(
                method,
                self._server + path,
                body=None if body is None else json.dumps(body),
                headers=headers,
                preload_content=not stream,
                timeout=urllib3.Timeout(connect=SECONDS, read=WATCH_SECONDS + SECONDS if stream else SECONDS),
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(f"The API server could not be reached at {self._server}: {error.args[-1]}") from None
        if response.status >= 400:
            raise ApiError(_reason(response), response.status)
        return response


def address(kind: str, namespace: str, name: str = "") -> str:
    """Return the path of a kind's objects in a namespace, or of one of them."""
    return f"{GROUP_OF[kind]}/namespaces/{namespace}/{kind.lower()}s/{name}".rstrip("/")


def _reason(response: urllib3.BaseHTTPResponse) -> str:
    text = response.data.decode(errors="replace")
    try:
        return json.loads(text)["message"]
    except (ValueError, KeyError):
        return f"The API server answered {response.status}: {text[:200]}"


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[Object]:
    rest = b""
    try:
        for part in response.stream(65536):
            *lines, rest = (rest + part).split(b"\n")
            yield from (json.loads(line) for line in lines if line)
    except urllib3.exceptions.HTTPError as error:
        raise ApiError(f"The API server stopped telling what happens: {error}") from None
