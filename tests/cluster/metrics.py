"""Asks the cluster's Prometheus, and keeps in mind which queries have ever returned something."""

import json
import threading
from typing import Any

import httpx

from tests.cluster.interface import Cluster
from tests.cluster.lines import Line
from tests.monitoring.promql import selectors

LOOK_BACK_MS = 300_000
SAMPLE_SECONDS = 5.0


class Prometheus:
    """Prometheus' API, by a port of this machine."""

    def __init__(self, cluster: Cluster) -> None:
        self._line = Line(cluster, "monitoring", "service/monitoring-prometheus", 9090)
        # No proxy: the address is a port of this machine.
        self._client = httpx.Client(trust_env=False, timeout=30)

    def close(self) -> None:
        """Take the way to it down."""
        self._client.close()
        self._line.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer. Raises ValueError with what Prometheus says against the request."""

        def question(url: str) -> Any:
            return self._client.get(f"{url}/api/v1/{path}", params=parameters).json()

        answer = self._line.ask(question)
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression, now."""
        data = self.ask("query", query=expression)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return data["result"]

    def selectors(self, expression: str) -> list[str]:
        """Return, as expressions, the series that an expression reads, each with the range it looks back on."""
        found = []
        for node in selectors(self.ask("parse_query", query=expression)):
            matchers = ",".join(f"{each['name']}{each['type']}{json.dumps(each['value'])}" for each in node["matchers"])
            found.append(f"last_over_time({{{matchers}}}[{max(node.get('range') or 0, LOOK_BACK_MS)}ms])")
        return found

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the rules that Prometheus has loaded, alerts and recordings, by their names."""
        groups = self.ask("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    def jobs_up(self) -> dict[str, bool]:
        """Return, for each job that there is a target of, whether all of its targets can be read."""
        return {each["metric"]["job"]: each["value"][1] == "1" for each in self.query("min by (job) (up)")}


class Sampler:
    """Asks a set of expressions again and again, in the background, until each has returned data once."""

    def __init__(self, prometheus: Prometheus, expressions: set[str]) -> None:
        self._prometheus = prometheus
        self.silent = set(expressions)
        """Those that have returned nothing yet."""
        self.up: set[str] = set()
        """Jobs all of whose targets could be read at some moment."""
        self.critical: set[str] = set()
        """Critical alerts that fired at some moment."""
        self.failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="sampler")

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Look once more, and no more."""
        self._ended.set()
        self._thread.join(120)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self.look()
                self._ended.wait(SAMPLE_SECONDS)
            # What the end itself brings, such as the duration of the run.
            self.look()
        except BaseException as error:
            self.failure = error

    def look(self) -> None:
        """Ask once what has returned nothing so far."""
        for expression in sorted(self.silent):
            if self._prometheus.query(expression):
                self.silent.discard(expression)
        self.up |= {job for job, up in self._prometheus.jobs_up().items() if up}
        for each in self._prometheus.query('ALERTS{alertstate="firing", severity="critical"}'):
            self.critical.add(each["metric"]["alertname"])
