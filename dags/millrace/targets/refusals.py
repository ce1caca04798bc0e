"""What the Kubernetes API refuses, each as one sentence that says what to do."""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.errors import MillraceError, TemporaryError

if TYPE_CHECKING:
    from kubernetes.client import ApiException

TRANSIENT = frozenset((429, 500, 502, 503, 504))
"""HTTP statuses that may be over in a moment."""
START_PATIENCE = 60.0
"""How long a refusal of somebody's rights may be wrong: an API server that starts does not know all Roles at once."""
_MAY_NOT = re.compile(r'User "(?P<user>[^"]+)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"')
_VERBS = {"GET": "read", "POST": "create", "PATCH": "change", "DELETE": "delete"}


@dataclass(frozen=True)
class Kind:
    """A kind of object, and where the API serves it."""

    name: str
    path: str
    plural: str
    provider: str = ""
    """What has to be installed for the API to know it."""


@dataclass(frozen=True)
class Request:
    """What was asked of the API."""

    method: str
    kind: Kind
    name: str
    """Of the object; empty where all of the kind were asked for."""
    namespace: str
    host: str

    @property
    def what(self) -> str:
        """The object, for a sentence."""
        return f"{self.kind.name} {self.name or 'objects'} in namespace {self.namespace}"

    @property
    def action(self) -> str:
        """What was to be done with it, for a sentence."""
        return f"{_VERBS[self.method]} {self.what}"


class ConflictError(MillraceError):
    """The object is there already, or isn't any more what it was: look again."""


class NotThereError(MillraceError):
    """There is no object of that name."""


def explain(error: "ApiException", request: Request) -> MillraceError:
    """Return the error that says why the API refused a request."""
    body = _status(error)
    said = " ".join(str(body.get("message") or error.reason or "it gives no reason").split())
    host = request.host
    if error.status in TRANSIENT:
        return TemporaryError(f"The Kubernetes API at {host} can't {request.action} now ({said}): try again later.")
    if error.status == 0:
        return MillraceError(f"No safe connection to the Kubernetes API at {host} ({said}): check its certificate.")
    special = {401: _unauthorized, 403: _forbidden, 404: _not_found, 409: _conflict}.get(error.status)
    if special is not None:
        return special(said, body, request)
    return MillraceError(f"The cluster refuses to {request.action} ({said}): correct what it names.")


def _unauthorized(said: str, body: dict[str, Any], request: Request) -> MillraceError:
    sentence = f"The Kubernetes API at {request.host} does not accept these credentials ({said}): renew them."
    return TemporaryError(sentence, START_PATIENCE)


def _forbidden(said: str, body: dict[str, Any], request: Request) -> MillraceError:
    match = _MAY_NOT.search(said)
    if match is None:  # Not for want of rights: an admission controller, such as Pod Security, or a quota.
        return MillraceError(f"The cluster forbids to {request.action} ({said}): change it, or that policy.")
    return TemporaryError(
        f"{match['user']} may not {match['verb']} {match['resource']} in namespace {request.namespace}: bind it to a "
        "Role that allows that (the chart's is `airflow-launcher`).",
        START_PATIENCE,
    )


def _not_found(said: str, body: dict[str, Any], request: Request) -> MillraceError:
    if (body.get("details") or {}).get("kind") == "namespaces":
        return MillraceError(f"There is no namespace {request.namespace} in the cluster at {request.host}: make it.")
    if not body and request.kind.provider:  # It isn't the object that is missing, but its address.
        return MillraceError(
            f"The cluster at {request.host} does not know the kind {request.kind.name}: install "
            f"{request.kind.provider} first."
        )
    return NotThereError(f"There is no {request.what}.")


def _conflict(said: str, body: dict[str, Any], request: Request) -> MillraceError:
    return ConflictError(f"Somebody else has changed {request.what} at the same moment ({said}): try again.")


def _status(error: "ApiException") -> dict[str, Any]:
    """Return the Status object that came with a refusal, or an empty dictionary if it was no such thing."""
    try:
        value = json.loads(error.body or "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) and value.get("kind") == "Status" else {}
