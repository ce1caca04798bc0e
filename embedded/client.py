"""The part of Airflow's REST API that the embedded target uses."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from embedded.airflow import USER
from embedded.errors import UserError


class AirflowClient:
    """Talks to one Airflow as its administrator. Every call may raise `httpx.HTTPError`."""

    def __init__(self, url: str, password: str) -> None:
        self._password = password
        # On this machine: no proxy, and no certificates to load.
        self._http = httpx.Client(base_url=url, timeout=10, trust_env=False, verify=False)  # noqa: S501

    def not_ready(self, dag_ids: Iterable[str], since: float, parts: Iterable[str] = ()) -> str:
        """Say what is not ready yet, or return an empty text.

        Args:
            dag_ids: DAGs that must have been read from their files.
            since: seconds since the epoch; what happened before does not count.
            parts: of ``scheduler``, ``triggerer``, ``dag_processor``, those that must work already.

        Raises:
            UserError: a DAG file can't be imported.
        """
        try:
            health = self._http.get("/api/v2/monitor/health", timeout=2)
            if health.status_code != 200:
                return "Airflow's API"
            for name in parts:
                beat = (health.json().get(name) or {}).get(f"latest_{name}_heartbeat")
                if not beat or datetime.fromisoformat(beat).timestamp() < since:
                    return f"Airflow's {name.replace('_', ' ')}"
            if "authorization" not in self._http.headers:
                self._log_in()
                # The API that tasks talk to is built when it gets its first request, which takes seconds. Whatever that
                # is answered: this way it is built while the DAGs' files are read, not when the first task starts.
                self._http.get("/execution/health", timeout=60)
            for dag_id in dag_ids:
                parsed = self._parsed_at(dag_id)
                if parsed is None or parsed < since:
                    self._raise_import_errors(since)
                    return f"DAG {dag_id}"
        except httpx.TransportError:
            return "Airflow's API"
        return ""

    def import_pools(self, path: Path) -> None:
        """Make Airflow's pools what the file says; it has the form of ``airflow pools export``."""
        if not path.exists():
            return
        for name, pool in json.loads(path.read_text()).items():
            response = self._http.patch(f"/api/v2/pools/{name}", json={"pool": name, **pool})
            if response.status_code == 404:
                response = self._http.post("/api/v2/pools", json={"name": name, **pool})
            response.raise_for_status()

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler act on the DAG's runs."""
        self._http.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def trigger(self, dag_id: str, run_id: str, parameters: dict[str, Any]) -> None:
        """Start a run of that id with these parameters.

        Raises:
            UserError: Airflow refuses the parameters.
        """
        body = {"dag_run_id": run_id, "logical_date": None, "conf": parameters}
        response = self._http.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body)
        if 400 <= response.status_code < 500:
            raise UserError(f"Airflow refuses to start {dag_id}: {_detail(response)}.", 2)
        response.raise_for_status()

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run."""
        response = self._http.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")
        return response.raise_for_status().json()["state"]

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The run's task instances: task_id, state, try_number, start_date, end_date, duration (s), ..."""
        response = self._http.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return response.raise_for_status().json()["task_instances"]

    def task_log(self, dag_id: str, run_id: str, task_id: str, attempt: int) -> list[str]:
        """The lines of a task's log, without what the logging adds to them."""
        url = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{attempt}"
        response = self._http.get(url, params={"full_content": True}, headers={"accept": "application/json"})
        content = response.raise_for_status().json().get("content") or []
        return [_log_line(entry) for entry in content]

    def _log_in(self) -> None:
        answer = self._http.post("/auth/token", json={"username": USER, "password": self._password})
        if answer.status_code >= 300:
            raise UserError(f"Airflow does not let us in: {_detail(answer)}; delete its folder with `make clean`.")
        self._http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"

    def _parsed_at(self, dag_id: str) -> float | None:
        response = self._http.get(f"/api/v2/dags/{dag_id}")
        if response.status_code != 200 or not response.json().get("last_parsed_time"):
            return None
        return datetime.fromisoformat(response.json()["last_parsed_time"]).timestamp()

    def _raise_import_errors(self, since: float) -> None:
        response = self._http.get("/api/v2/importErrors")
        if response.status_code != 200:
            return
        for error in response.json()["import_errors"]:
            if datetime.fromisoformat(error["timestamp"]).timestamp() >= since:
                last = error["stack_trace"].strip().splitlines()[-1]
                raise UserError(f"Airflow can't import {error['filename']}: {last}; correct that file.")


def seconds_since(start: str | None, end: str | None = None) -> float | None:
    """Seconds from one of the API's times to another, or to now; None if it has not begun."""
    if not start:
        return None
    finish = datetime.fromisoformat(end) if end else datetime.now(UTC)
    return (finish - datetime.fromisoformat(start)).total_seconds()


def _log_line(entry: dict[str, Any] | str) -> str:
    if isinstance(entry, str):
        return entry
    error = entry.get("error_detail") or []
    reasons = "".join(f" {one.get('exc_type')}: {one.get('exc_value')}" for one in error[:1])
    return f"{entry.get('event', '')}{reasons}"


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"
    return detail if isinstance(detail, str) else json.dumps(detail)
