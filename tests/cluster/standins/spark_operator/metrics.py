"""What the operator counts, under upstream's names, of the changes that were really seen.

A series is there only once something has happened, as upstream's are. Upstream's names of counters lack the ending that
Prometheus' own client for Python gives each of its counters, so the text is written here.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.cluster.standins.spark_operator import pods
from tests.cluster.standins.spark_operator.names import PodState, State
from tests.cluster.standins.spark_operator.restarts import now, state_of

COUNTERS = {
    "spark_application_count": "Total number of SparkApplication",
    "spark_application_submit_count": "Total number of submitted SparkApplication",
    "spark_application_failed_submission_count": "Total number of failed SparkApplication submission",
    "spark_application_success_count": "Total number of successful SparkApplication",
    "spark_application_failure_count": "Total number of failed SparkApplication",
    "spark_executor_success_count": "Total number of successful Spark executors",
    "spark_executor_failure_count": "Total number of failed Spark executors",
}
GAUGES = {
    "spark_application_running_count": "Total number of running SparkApplication",
    "spark_executor_running_count": "Total number of running Spark executors",
}
SUMMARIES = {
    "spark_application_success_execution_time_seconds": "",
    "spark_application_failure_execution_time_seconds": "",
    "spark_application_submit_latency_seconds": "Spark App Submit Latency from creation to submitted state",
    "spark_application_start_latency_seconds": "Spark App Start Latency via the Operator",
}
_REACHED = {
    State.NEW: "spark_application_count",
    State.SUBMITTED: "spark_application_submit_count",
    State.SUBMISSION_FAILED: "spark_application_failed_submission_count",
    State.COMPLETED: "spark_application_success_count",
    State.FAILED: "spark_application_failure_count",
}
_EXECUTOR_REACHED = {
    PodState.COMPLETED: "spark_executor_success_count",
    PodState.FAILED: "spark_executor_failure_count",
}
Object = Mapping[str, Any]
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counts by the labels that the chart names (prometheus.metrics.labels), which are labels of the applications."""

    def __init__(self, labels: Sequence[str] = ("app_type",)) -> None:
        self._labels = [_valid(label) for label in labels]
        self._lock = threading.Lock()
        self._numbers: dict[str, dict[Labels, float]] = {}

    def application_changed(self, old: Object | None, new: Object | None) -> None:
        """Count what became of an application; None stands for: not there."""
        before = state_of(old) if old else None
        after = state_of(new) if new else None
        if before == after:
            return
        if old and before is State.RUNNING:
            self._add("spark_application_running_count", old, -1)
        if new is None or after is None:
            return
        if after is State.RUNNING:
            self._add("spark_application_running_count", new)
        elif after in _REACHED:
            self._add(_REACHED[after], new)
        if old:
            self._observe(new, after)

    def pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Count what became of an executor."""
        before = pods.executor_state(old) if old else None
        after = pods.executor_state(new) if new else None
        if before == after:
            return
        if old and before is PodState.RUNNING:
            self._add("spark_executor_running_count", old, -1)
        if new and after is PodState.RUNNING:
            self._add("spark_executor_running_count", new)
        if old and new and after in _EXECUTOR_REACHED:
            self._add(_EXECUTOR_REACHED[after], new)

    def text(self) -> str:
        """Return all numbers as Prometheus reads them."""
        lines: list[str] = []
        with self._lock:
            for kind, names in (("counter", COUNTERS), ("gauge", GAUGES), ("summary", SUMMARIES)):
                for name, what in names.items():
                    parts = (f"{name}_sum", f"{name}_count") if kind == "summary" else (name,)
                    if not self._numbers.get(parts[0]):
                        continue
                    lines += [f"# HELP {name} {what}".rstrip(), f"# TYPE {name} {kind}"]
                    lines += [
                        f"{part}{_written(labels)} {value:g}"
                        for part in parts
                        for labels, value in self._numbers[part].items()
                    ]
        return "".join(f"{line}\n" for line in lines)

    def _observe(self, app: Object, state: State) -> None:
        status = app.get("status") or {}
        since_creation = (now() - datetime.fromisoformat(app["metadata"]["creationTimestamp"])).total_seconds()
        if state is State.SUBMITTED and status.get("submissionAttempts") == 1:
            self._add_to_summary("spark_application_submit_latency_seconds", app, since_creation)
        elif state is State.RUNNING and status.get("executionAttempts") == 1:
            self._add_to_summary("spark_application_start_latency_seconds", app, since_creation)
        elif state in (State.COMPLETED, State.FAILED):
            began, ended = status.get("lastSubmissionAttemptTime"), status.get("terminationTime")
            if began and ended:
                took = (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
                which = "success" if state is State.COMPLETED else "failure"
                self._add_to_summary(f"spark_application_{which}_execution_time_seconds", app, took)

    def _add_to_summary(self, name: str, owner: Object, value: float) -> None:
        self._add(f"{name}_sum", owner, value)
        self._add(f"{name}_count", owner)

    def _add(self, name: str, owner: Object, value: float = 1) -> None:
        given = {_valid(key): text for key, text in (owner["metadata"].get("labels") or {}).items()}
        given.setdefault("namespace", owner["metadata"]["namespace"])
        labels = tuple((label, given.get(label, "Unknown")) for label in self._labels)
        with self._lock:
            series = self._numbers.setdefault(name, {})
            series[labels] = series.get(labels, 0) + value


def _valid(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


def _written(labels: Labels) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    inner = ",".join(f'{name}="{escaped(value)}"' for name, value in labels)
    return f"{{{inner}}}" if inner else ""
