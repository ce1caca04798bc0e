"""The API server, with plain dictionaries: what is asked for are paths, what comes back is the JSON."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration

from tests.cluster.standins.spark_operator.names import API_VERSION

CONNECT_SECONDS = 5
ANSWER_SECONDS = 30
WATCH_SECONDS = 240
"""After so long the API server ends a watch; a node that is gone is noticed a little later."""


@dataclass(frozen=True)
class Kind:
    """A kind of object in one namespace."""

    api: str
    plural: str

    def path(self, namespace: str, name: str = "", part: str = "") -> str:
        """Return where the API has one object, or all of them; `part` is such as `status`."""
        whole = f"{self.api}/namespaces/{quote(namespace)}/{self.plural}"
        return "/".join(filter(None, (whole, quote(name), part)))


APPLICATION = Kind(f"/apis/{API_VERSION}", "sparkapplications")
POD = Kind("/api/v1", "pods")
SERVICE = Kind("/api/v1", "services")
EVENT = Kind("/api/v1", "events")


class ConflictError(Exception):
    """The object was changed since it was read, or is there already."""


class GoneError(Exception):
    """The object, or the point from which to watch, is gone."""


class Cluster:
    """All calls of the operator. What the API refuses is raised as kubernetes.client.ApiException."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def get(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        """Return an object, or None if there is none."""
        try:
            return self._call("GET", kind.path(namespace, name))
        except GoneError:
            return None

    def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
        """Return the list of the objects with all these labels."""
        return self._call("GET", kind.path(namespace) + _selected(labels))

    def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object. Raises ConflictError if one of its name is there."""
        return self._call("POST", kind.path(namespace), body)

    def replace(self, kind: Kind, namespace: str, body: Mapping[str, Any], part: str = "") -> dict[str, Any]:
        """Write an object or a part of it. Raises ConflictError if it isn't any more what was read, or GoneError."""
        return self._call("PUT", kind.path(namespace, body["metadata"]["name"], part), body)

    def delete(self, kind: Kind, namespace: str, name: str, grace: int | None = None) -> None:
        """Ask for an object's end; no error if there is none."""
        body = {} if grace is None else {"gracePeriodSeconds": grace}
        try:
            self._call("DELETE", kind.path(namespace, name), body)
        except GoneError:
            return

    def watch(self, kind: Kind, namespace: str, labels: Mapping[str, str], since: str) -> "Stream":
        """Return what happens to such objects from a version on."""
        more = {"watch": "true", "resourceVersion": since, "allowWatchBookmarks": "true"}
        path = kind.path(namespace) + _selected(labels, {**more, "timeoutSeconds": str(WATCH_SECONDS)})
        return Stream(self._send("GET", path, None, (CONNECT_SECONDS, WATCH_SECONDS + ANSWER_SECONDS), stream=True))

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return json.loads(self._send(method, path, body, (CONNECT_SECONDS, ANSWER_SECONDS)).data)

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout: tuple[int, int], stream: bool = False
    ) -> Any:
        try:
            response = self._client.call_api(
                path,
                method,
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=None if body is None else dict(body),
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=timeout,
            )
        except ApiException as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
                raise GoneError(str(error.reason)) from error
            if error.status == HTTPStatus.CONFLICT:
                raise ConflictError(str(error.reason)) from error
            raise
        if not stream:
            response.read(cache_content=True)
        return response


class Stream:
    """What happens to objects: kinds of event, and the object. Raises GoneError if the beginning is too long ago."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            rest = b""
            for piece in self._response.stream(amt=None):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise GoneError(str(event["object"].get("message")))
                    yield event["type"], event["object"]
        finally:
            self._response.close()
            self._response.release_conn()

    def stop(self) -> None:
        """End it, from another thread."""
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            self._response.shutdown()


def connect(kubeconfig: str | None = None) -> ApiClient:
    """Return the client of the pod's service account, or of a kubeconfig."""
    configuration = Configuration()
    if kubeconfig:
        config.load_kube_config(kubeconfig, client_configuration=configuration)
    else:
        config.load_incluster_config(client_configuration=configuration)
    configuration.connection_pool_maxsize = 32
    return ApiClient(configuration)


def _selected(labels: Mapping[str, str], more: Mapping[str, str] | None = None) -> str:
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    query = {**({"labelSelector": selector} if selector else {}), **(more or {})}
    return f"?{urlencode(query)}" if query else ""
