"""The API of one Kubernetes cluster: JSON in and out, and every failure as one sentence.

The client of the package `kubernetes` finds the cluster, its certificates and the credentials. The objects stay the
plain dictionaries that the API sends: so SparkApplications, Jobs and Pods are handled in one way.
"""

import os
import re
from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from millrace.errors import MillraceError, TemporaryError
from millrace.targets.refusals import TRANSIENT, Kind, NotThereError, Request, explain

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

FIELD_MANAGER = "millrace"
REQUEST_TIMEOUT = (5.0, 30.0)
"""Seconds to connect, and between two pieces of an answer."""
RETRIES = 4
"""How often a request is sent again, after 0.6, 1.2 and 2.4 s, if nobody answers or the API asks for patience."""
LOG_BYTES = 1024 * 1024
"""The most that is kept of a log."""


SPARK_APPLICATION = Kind(
    "SparkApplication", "/apis/sparkoperator.k8s.io/v1beta2", "sparkapplications", "the Spark operator"
)
JOB = Kind("Job", "/apis/batch/v1", "jobs")
POD = Kind("Pod", "/api/v1", "pods")


class Cluster:
    """One namespace of the cluster. Every method raises MillraceError; TemporaryError if asking again may help."""

    def __init__(self, namespace: str, client: "ApiClient | None" = None) -> None:
        self.namespace = namespace
        self._client = client or connect(os.environ.get("KUBECONFIG"))

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """Return an object, or None if there is none of that name."""
        try:
            return self._request("GET", kind, name)
        except NotThereError:
            return None

    def list(self, kind: Kind, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the objects that have all these labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return self._request("GET", kind, query={"labelSelector": selector})["items"]

    def create(self, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object; unknown fields are refused. Raises ConflictError if one of that name is there already."""
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._request("POST", kind, body["metadata"]["name"], query=query, body=body)

    def merge(self, kind: Kind, name: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Change fields of an object (a JSON merge patch); return it, or None if it is gone.

        Raises ConflictError if the body names a `metadata.resourceVersion` that isn't the newest any more.
        """
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        try:
            return self._request(
                "PATCH", kind, name, query=query, body=body, content_type="application/merge-patch+json"
            )
        except NotThereError:
            return None

    def delete(self, kind: Kind, found: Mapping[str, Any]) -> None:
        """Delete this very object, after whatever it owns; returns at once. It is no error if it is gone.

        Raises ConflictError if it isn't any more what was found.
        """
        metadata = found["metadata"]
        exactly = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {"propagationPolicy": "Foreground", "preconditions": exactly}
        try:
            self._request("DELETE", kind, metadata["name"], body=body)
        except NotThereError:
            return

    def log(self, pod: str, offset: int = 0) -> tuple[str, int]:
        """Return what a pod's first container wrote since byte `offset`, and the next offset.

        Of more than LOG_BYTES only the newest are returned, after a line that says so. A log that is shorter than
        `offset` has begun anew, and is returned from its beginning.
        """
        import urllib3

        response = self._call("GET", f"/api/v1/namespaces/{self.namespace}/pods/{quote(pod)}/log", POD, pod)
        tail: deque[bytes] = deque()
        kept = size = 0
        try:
            for piece in response.stream(64 * 1024):
                size += len(piece)
                tail.append(piece)
                kept += len(piece)
                while kept - len(tail[0]) >= LOG_BYTES:
                    kept -= len(tail.popleft())
        except urllib3.exceptions.HTTPError as error:
            raise TemporaryError(f"The log of pod {pod} was cut off ({_reason(error)}): read it again.") from error
        finally:
            response.release_conn()
        text = b"".join(tail)
        wanted = size if offset > size else size - offset
        if wanted <= len(text):
            return text[len(text) - wanted :].decode(errors="replace"), size
        note = f"[{wanted - len(text):,} earlier bytes are left out]\n"
        return note + text.decode(errors="replace"), size

    def _request(
        self,
        method: str,
        kind: Kind,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        path = f"{kind.path}/namespaces/{self.namespace}/{kind.plural}"
        if name and method != "POST":
            path += f"/{quote(name)}"
        return self._call(method, path, kind, name, query=query, body=body, content_type=content_type)

    def _call(
        self,
        method: str,
        path: str,
        kind: Kind,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Any:
        import urllib3
        from kubernetes.client import ApiException

        host = self._client.configuration.host
        try:
            return self._client.call_api(
                path,
                method,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json, */*", "Content-Type": content_type},
                body=dict(body) if body else None,
                auth_settings=["BearerToken"],
                response_types_map=dict.fromkeys((200, 201, 202), "object"),
                _return_http_data_only=True,
                _preload_content=not path.endswith("/log"),
                _request_timeout=REQUEST_TIMEOUT,
            )
        except ApiException as error:
            raise explain(error, Request(method, kind, name, self.namespace, host)) from error
        except urllib3.exceptions.HTTPError as error:
            if isinstance(getattr(error, "reason", None), urllib3.exceptions.SSLError):
                raise MillraceError(
                    f"The certificate of the Kubernetes API at {host} is not trusted ({_reason(error)}): correct the "
                    "certificate authority in the kubeconfig."
                ) from error
            raise TemporaryError(
                f"The Kubernetes API at {host} does not answer ({_reason(error)}): check that it runs and can be "
                "reached from here."
            ) from error


@cache
def connect(kubeconfig: str | None) -> "ApiClient":
    """Return the client for a kubeconfig; by default that of the pod's service account, else ~/.kube/config.

    Made once a process for each, because it keeps its connections. Raises MillraceError if there is no cluster to find.
    """
    import urllib3
    import yaml
    from kubernetes import config
    from kubernetes.client import ApiClient, Configuration

    configuration = Configuration()
    configuration.retries = urllib3.Retry(
        total=RETRIES,
        backoff_factor=0.3,
        status_forcelist=TRANSIENT,
        # Also what changes something: a second `create` finds the first one's object, with its owner.
        allowed_methods=None,
        raise_on_status=False,
    )
    try:
        if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
        else:
            config.load_kube_config(kubeconfig, client_configuration=configuration)
    except (config.ConfigException, OSError, yaml.YAMLError, KeyError, ValueError) as error:
        raise MillraceError(
            f"There is no way to a Kubernetes cluster ({' '.join(str(error).split())}): set KUBECONFIG to a file that "
            "names one, or run in a pod with a service account."
        ) from error
    return ApiClient(configuration)


def _reason(error: Exception) -> str:
    """Return what lies behind an error of the HTTP library, without the names of its objects."""
    text = str(getattr(error, "reason", None) or error)
    return " ".join(re.sub(r"<[^>]*>: |\w+\(host='[^']*', port=\d+\): ", "", text).split())
