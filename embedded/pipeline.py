"""Follow a run of streaming_pipeline: its tasks by Airflow's API, its stream by the driver's progress and by Kafka."""

import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from embedded.client import AirflowClient, seconds_since
from embedded.settings import Settings
from millrace.progress import find_query, merged_offsets, watermark_of
from millrace.storage import run_folder

DAG_ID = "streaming_pipeline"
APPLICATION = QUERY = "event-windows"
INPUT_TOPIC, OUTPUT_TOPIC = "events", "event-windows"


@dataclass(frozen=True)
class Task:
    """One task of the run."""

    name: str
    state: str
    """Airflow's state; ``waiting`` where it has none yet."""
    attempt: int
    seconds: float | None
    """Since its start, or of its whole run."""


@dataclass(frozen=True)
class Stream:
    """How far the stream is. None: not known yet."""

    events_in: int | None = None
    """Records in the input topic."""
    processed: int | None = None
    """Records of it that finished batches have read."""
    windows_out: int | None = None
    """Records in the output topic."""
    events_per_second: float | None = None
    """Of the newest batch that had any."""
    watermark: str | None = None
    batch: int | None = None

    @property
    def lag(self) -> int | None:
        """Records that wait to be processed."""
        if self.events_in is None or self.processed is None:
            return None
        return max(0, self.events_in - self.processed)


@dataclass(frozen=True)
class View:
    """A run at one moment."""

    run_id: str
    state: str
    tasks: list[Task] = field(default_factory=list)
    stream: Stream = field(default_factory=Stream)


class Run:
    """One run of the pipeline, started by this process."""

    def __init__(self, settings: Settings, client: AirflowClient, run_id: str) -> None:
        self.settings = settings
        self.client = client
        self.run_id = run_id
        quiet = {"bootstrap.servers": settings.bootstrap_servers, "log_level": 0}
        self._kafka = AdminClient(quiet)
        self._driver = httpx.Client(timeout=2, trust_env=False, verify=False)  # noqa: S501 - on this machine only
        self._stream = Stream()

    def look(self) -> View:
        """The run now. May raise `httpx.HTTPError` while Airflow does not answer."""
        state = self.client.run_state(DAG_ID, self.run_id)
        tasks = [
            Task(
                name=one["task_id"],
                state=one["state"] or "waiting",
                attempt=one["try_number"],
                seconds=seconds_since(one["start_date"], one["end_date"]),
            )
            for one in self.client.tasks(DAG_ID, self.run_id)
        ]
        # Before that, the topics hold what an earlier run left.
        if any(task.name == "create_topics" and task.state == "success" for task in tasks):
            self._stream = self._look_at_stream()
        return View(self.run_id, state, sorted(tasks, key=_order), self._stream)

    def summary(self) -> dict[str, Any] | None:
        """What generate_report wrote, or None if it did not get that far or the storage is elsewhere."""
        if self.settings.storage is None:
            return None
        path = self.settings.storage / "reports" / run_folder(self.run_id) / "summary.json"
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_text())
        return None

    def _look_at_stream(self) -> Stream:
        old = self._stream
        batch, rate = self._newest_batch()
        return Stream(
            events_in=self._records(INPUT_TOPIC) or old.events_in,
            windows_out=self._records(OUTPUT_TOPIC) or old.windows_out,
            processed=sum(merged_offsets(batch, INPUT_TOPIC).values()) if batch else old.processed,
            events_per_second=rate or old.events_per_second,
            watermark=str(watermark_of(batch) or "").removesuffix("+00:00") if batch else old.watermark,
            batch=batch["batchId"] if batch else old.batch,
        )

    def _newest_batch(self) -> tuple[dict[str, Any] | None, float | None]:
        """The driver's newest progress, and the rate (records/s) of its newest batch that had any."""
        try:
            status = json.loads((self.settings.apps / APPLICATION / "status.json").read_bytes())
            # Before the driver of this run is started, the file may be of an earlier one.
            if self.run_id not in str(status.get("owner")) or not status.get("metrics_url"):
                return None, None
            response = self._driver.get(f"{status['metrics_url']}/progress", params={"last": 10})
            batches = (find_query(response.json(), QUERY) or {}).get("progress") or []
        except (OSError, ValueError, httpx.HTTPError):
            return None, None
        rates = [one.get("processedRowsPerSecond") for one in batches if one.get("numInputRows")]
        return (batches[-1] if batches else None), (rates[-1] if rates else None)

    def _records(self, topic: str) -> int | None:
        with contextlib.suppress(KafkaException):
            partitions = self._kafka.list_topics(topic, timeout=2).topics[topic].partitions
            wanted = {TopicPartition(topic, number): OffsetSpec.latest() for number in partitions}
            if wanted:
                found = self._kafka.list_offsets(wanted, request_timeout=2).values()
                return sum(future.result().offset for future in found)
        return None


ORDER = (
    "check_kafka",
    "create_topics",
    "start_generator",
    "start_streaming",
    "monitor_pipeline",
    "verify_outputs",
    "generate_report",
    "stop_pipeline",
)


def _order(task: Task) -> int:
    return ORDER.index(task.name) if task.name in ORDER else len(ORDER)


def failed_task(view: View) -> Task | None:
    """The task to look at: the first that failed by itself, not because another had."""
    return next((task for task in view.tasks if task.state == "failed"), None)
