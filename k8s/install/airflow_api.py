"""The part of Airflow's REST API that the main job needs."""

import json
import urllib.error
import urllib.request
from http import HTTPStatus
from typing import Any

from k8s.install.errors import UserError

TIMEOUT_SECONDS = 30


class AirflowUnreachableError(Exception):
    """Airflow did not answer this time."""


class Airflow:
    """One Airflow, as its administrator."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._url = url
        self._token = ""
        answer = self._call("POST", "/auth/token", {"username": user, "password": password})
        self._token = answer["access_token"]

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler act on the DAG's runs.

        Raises:
            UserError: there is no such DAG.
        """
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, run_id: str, parameters: dict[str, Any]) -> None:
        """Start a run.

        Raises:
            UserError: Airflow refuses the parameters.
        """
        body = {"dag_run_id": run_id, "logical_date": None, "conf": parameters}
        self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)

    def state(self, dag_id: str, run_id: str) -> str:
        """The run's state. Raises AirflowUnreachableError."""
        return self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"]

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances. Raises AirflowUnreachableError."""
        return self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """What a task returned; None if it returned nothing."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            value = self._call("GET", path)["value"]
        except UserError:
            return None
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> list[str]:
        """The lines of a task's log; empty if there is none."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}?full_content=true"
        try:
            content = self._call("GET", path).get("content") or []
        except UserError:
            return []
        return [entry if isinstance(entry, str) else str(entry.get("event", "")) for entry in content]

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        headers = {"accept": "application/json", "content-type": "application/json"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - the address is a port of this machine
            self._url + path, data, headers, method=method
        )
        # No proxy: the address is a port of this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return None if response.status == HTTPStatus.NO_CONTENT else json.load(response)
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise AirflowUnreachableError(f"HTTP {error.code}") from None
            raise UserError(f"Airflow refuses {method} {path.partition('?')[0]}: {_detail(error)}.") from None
        except (urllib.error.URLError, ConnectionError, TimeoutError, ValueError) as error:
            raise AirflowUnreachableError(str(getattr(error, "reason", error))) from None


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        detail = json.load(error)["detail"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
    return detail if isinstance(detail, str) else json.dumps(detail)
