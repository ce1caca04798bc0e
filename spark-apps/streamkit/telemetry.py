"""What the queries report: a log line per batch, Prometheus metrics, and the progress that targets read over HTTP."""

import json
import math
import threading
from collections import deque
from datetime import datetime
from functools import cached_property
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pyspark import SparkContext
from pyspark.sql.streaming.listener import JStreamingQueryListener, StreamingQueryListener

from streamkit.counting import row_counts
from streamkit.dead_letter import QUERY as DEAD_LETTERS
from streamkit.dead_letter import invalid_count
from streamkit.logs import LOGGER

KEPT = 1000
"""Progress reports kept for each query."""

_LABELS = ("application", "query")


class Metrics:
    """The Prometheus metrics of an app, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def make(kind: type, name: str, text: str, labels: tuple[str, ...] = _LABELS, **options: Any) -> Any:
            return kind(name, text, labels, registry=self.registry, **options)

        self.processed = make(Counter, "stream_events_processed", "Records read and processed.")
        self.latency = make(
            Histogram,
            "stream_processing_latency_seconds",
            "Time from a batch's trigger to its commit.",
            buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
        )
        self.lag = make(Gauge, "stream_processing_lag", "Records not read yet.", (*_LABELS, "topic"))
        self.duration = make(Gauge, "stream_batch_duration_seconds", "Duration of the last batch.")
        self.input_rate = make(Gauge, "stream_input_rows_per_second", "Records arriving, last batch.")
        self.processed_rate = make(Gauge, "stream_processed_rows_per_second", "Records processed, last batch.")
        self.state_rows = make(Gauge, "stream_state_rows", "Rows in the state store.")
        self.watermark_delay = make(
            Gauge, "stream_watermark_delay_seconds", "From the watermark to the latest event time of the last batch."
        )
        self.late = make(Counter, "stream_late_rows_dropped", "Rows dropped because the watermark had passed them.")
        self.duplicates = make(
            Counter, "stream_duplicate_rows_dropped", "Rows dropped because their event had come before."
        )
        self.dead_letters = make(Counter, "stream_dead_letters", "Records sent to the dead-letter topic.")
        self.rows = make(Counter, "stream_rows", "Rows by what became of them.", (*_LABELS, "kind"))

    def update(self, application: str, progress: dict[str, Any]) -> None:
        """Take one progress report (Spark's StreamingQueryProgress as a dict) into the metrics."""
        labels = (application, str(progress["name"]))
        seconds = progress.get("durationMs", {}).get("triggerExecution", 0) / 1000
        self.processed.labels(*labels).inc(progress["numInputRows"])
        self.duration.labels(*labels).set(seconds)
        self.input_rate.labels(*labels).set(_number(progress.get("inputRowsPerSecond")))
        self.processed_rate.labels(*labels).set(_number(progress.get("processedRowsPerSecond")))
        if progress["numInputRows"]:
            self.latency.labels(*labels).observe(seconds)
        for topic, records in lag_by_topic(progress).items():
            self.lag.labels(*labels, topic).set(records)
        operators = progress.get("stateOperators", [])
        if operators:
            self.state_rows.labels(*labels).set(sum(operator["numRowsTotal"] for operator in operators))
            self.late.labels(*labels).inc(sum(operator["numRowsDroppedByWatermark"] for operator in operators))
            self.duplicates.labels(*labels).inc(duplicate_rows(progress))
        delay = watermark_delay_seconds(progress)
        if delay is not None:
            self.watermark_delay.labels(*labels).set(delay)
        for kind, count in row_counts(progress.get("observedMetrics") or {}).items():
            self.rows.labels(*labels, kind).inc(count)
        if progress["name"] == DEAD_LETTERS:
            self.dead_letters.labels(*labels).inc(max(0, progress["sink"].get("numOutputRows") or 0))
        else:
            self.dead_letters.labels(*labels).inc(invalid_count(progress.get("observedMetrics") or {}))


def _number(value: Any) -> float:
    """Return a rate of Spark's JSON, which says NaN and Infinity in words or leaves the rate out."""
    number = float(value or 0)
    return number if math.isfinite(number) else 0.0


def lag_by_topic(progress: dict[str, Any]) -> dict[str, int]:
    """Return how many records of each topic the query's sources have not read yet."""
    lag: dict[str, int] = {}
    for source in progress.get("sources", []):
        end, latest = source.get("endOffset"), source.get("latestOffset")
        if not isinstance(end, dict) or not isinstance(latest, dict):
            continue
        for topic, partitions in latest.items():
            behind = sum(max(0, offset - end.get(topic, {}).get(p, 0)) for p, offset in partitions.items())
            lag[topic] = lag.get(topic, 0) + behind
    return lag


def duplicate_rows(progress: dict[str, Any]) -> int:
    """Return how many rows of a batch were dropped because their event had come before."""
    operators = progress.get("stateOperators", [])
    return sum((operator.get("customMetrics") or {}).get("numDroppedDuplicateRows", 0) for operator in operators)


def watermark_delay_seconds(progress: dict[str, Any]) -> float | None:
    """Return the seconds from the watermark to the batch's latest event time, or None if the batch had no event."""
    times = progress.get("eventTime", {})
    if "max" not in times or "watermark" not in times:
        return None
    latest, watermark = (datetime.fromisoformat(times[name].replace("Z", "+00:00")) for name in ("max", "watermark"))
    return (latest - watermark).total_seconds()


class _JsonListener(JStreamingQueryListener):
    """Hands progress on as Spark's JSON.

    PySpark's own makes Python objects of it, map by map. Each map ends in a Java exception, for which PySpark looks up
    classes by name in every jar: 60 ms of CPU for every batch (docs/tuning.md).
    """

    def onQueryProgress(self, jevent: Any) -> None:  # noqa: N802
        self.pylistener.onQueryProgress(SimpleNamespace(progress=SimpleNamespace(json=jevent.progress().json())))


class Telemetry(StreamingQueryListener):
    """Listens to all queries of the session; keeps what `progress()` returns. Methods may run in any thread."""

    def __init__(self, application: str) -> None:
        self.application = application
        self.metrics = Metrics()
        self._lock = threading.Lock()
        self._queries: dict[str, dict[str, Any]] = {}  # by name
        self._names: dict[str, str] = {}  # by run id

    @cached_property
    def _jlistener(self) -> Any:
        """The Java listener that PySpark registers."""
        jvm: Any = SparkContext._jvm
        return jvm.PythonStreamingQueryListenerWrapper(_JsonListener(self))

    def progress(self, last: int | None = None) -> dict[str, Any]:
        """Return all queries with their progress reports (all that are kept, or the `last` ones), newest last."""
        with self._lock:
            queries = [
                {**query, "progress": list(query["progress"])[-last:] if last else list(query["progress"])}
                for query in self._queries.values()
            ]
        return {"application": self.application, "queries": queries}

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802  (Spark's name)
        """Remember a query that starts."""
        with self._lock:
            self._names[str(event.runId)] = event.name
            kept = self._queries.get(event.name, {}).get("progress", deque(maxlen=KEPT))
            self._queries[event.name] = {
                "name": event.name,
                "id": str(event.id),
                "runId": str(event.runId),
                "active": True,
                "exception": None,
                "progress": kept,
            }
        LOGGER.info("query started", extra={"fields": {"query": event.name, "queryId": str(event.id)}})

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802
        """Log, count and keep one batch's report."""
        progress = json.loads(event.progress.json)
        self.metrics.update(self.application, progress)
        with self._lock:
            self._queries[progress["name"]]["progress"].append(progress)
        LOGGER.info("batch", extra={"fields": summary(progress)})

    def onQueryIdle(self, event: Any) -> None:  # noqa: N802
        """Do nothing: an idle trigger changes nothing that is reported."""

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
        """Remember that a query ended, and why."""
        with self._lock:
            name = self._names.get(str(event.runId), "")
            query = self._queries.get(name)
            if query and query["runId"] == str(event.runId):
                query["active"] = False
                query["exception"] = event.exception
        LOGGER.info("query ended", extra={"fields": {"query": name, "failed": event.exception is not None}})


def summary(progress: dict[str, Any]) -> dict[str, Any]:
    """Return what a log line says about a batch."""
    operators = progress.get("stateOperators", [])
    counts = row_counts(progress.get("observedMetrics") or {})
    return {
        "query": progress["name"],
        "batch": progress["batchId"],
        "inputRows": progress["numInputRows"],
        "rowsPerSecond": round(_number(progress.get("processedRowsPerSecond"))),
        "durationMs": progress.get("durationMs", {}).get("triggerExecution"),
        "watermark": progress.get("eventTime", {}).get("watermark"),
        "stateRows": sum(operator["numRowsTotal"] for operator in operators),
        "lateRows": sum(operator["numRowsDroppedByWatermark"] for operator in operators),
        "duplicateRows": duplicate_rows(progress),
        "invalidRows": invalid_count(progress.get("observedMetrics") or {}),
        "lag": lag_by_topic(progress),
        **({"rows": counts} if counts else {}),
    }
