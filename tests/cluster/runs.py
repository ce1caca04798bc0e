"""A run of the main job in the cluster: triggered over Airflow's API, and followed beside the tests."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeVar

from embedded.pipeline import ORDER as TASKS
from k8s.install.airflow_api import Airflow
from main_job.options import RunOptions
from millrace.storage import run_folder
from tests.cluster.bucket import Bucket
from tests.cluster.interface import Cluster
from tests.cluster.lines import Line
from tests.cluster.waiting import eventually
from tests.cluster.watching import Watch

T = TypeVar("T")

DAG_ID = "streaming_pipeline"
APPLICATION = "event-windows"
DEFERRED = ("start_streaming", "monitor_pipeline")
"""Tasks that wait in the triggerer, and get another pod for their end."""
POLL_SECONDS = 1.0


class FullAirflow(Airflow):
    """More of Airflow's API than the installation needs."""

    def pause(self, dag_id: str) -> None:
        """Have the scheduler start no more runs of a DAG."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})

    def add_connection(self, connection_id: str, kind: str, host: str) -> None:
        """Add a connection."""
        self._call("POST", "/api/v2/connections", {"connection_id": connection_id, "conn_type": kind, "host": host})

    def remove_connection(self, connection_id: str) -> None:
        """Remove a connection."""
        self._call("DELETE", f"/api/v2/connections/{connection_id}")


class AirflowLine:
    """Airflow's API as its administrator, by a port of this machine."""

    def __init__(self, cluster: Cluster, password: str) -> None:
        self._line = Line(cluster, "airflow", "service/airflow-api-server", 8080)
        self._password = password
        self._known: tuple[str, FullAirflow] | None = None

    def ask(self, question: Callable[[FullAirflow], T]) -> T:
        """Return what `question` makes of Airflow. Raises NoWayError, and UserError where Airflow refuses."""

        def by(url: str) -> T:
            if self._known is None or self._known[0] != url:
                self._known = (url, FullAirflow(url, "admin", self._password))
            return question(self._known[1])

        return self._line.ask(by)

    def close(self) -> None:
        """Take the way to it down."""
        self._line.close()


@dataclass(frozen=True)
class Options:
    """Which flights a run replays, and how fast."""

    first_day: date
    days: int
    pace: float
    """Times real time."""

    @property
    def parameters(self) -> dict[str, Any]:
        return RunOptions(self.first_day.isoformat(), self.days, self.pace, resume=False).parameters


@dataclass
class Queued:
    """How long tasks waited for their pods, by task and try: from being queued to the start in the pod."""

    seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    def take(self, task: dict[str, Any]) -> None:
        """Take over what Airflow says of a task.

        A deferred task is queued again for its end, and keeps the time of its start: the first sight of a try counts.
        """
        key = (task["task_id"], task.get("try_number") or 0)
        queued, started = task.get("queued_when"), task.get("start_date")
        if key not in self.seconds and queued and started and task["state"] not in (None, "queued", "scheduled"):
            waited = (datetime.fromisoformat(started) - datetime.fromisoformat(queued)).total_seconds()
            if waited >= 0:
                self.seconds[key] = waited


class Run:
    """One run of the pipeline, from its trigger to its end; the `with` lasts as long as it is followed."""

    def __init__(self, cluster: Cluster, airflow: AirflowLine, options: Options) -> None:
        self.options = options
        self.run_id = f"test-{datetime.now():%Y-%m-%d-%H-%M-%S-%f}"
        self.queued = Queued()
        self.state = "queued"
        self.tasks: dict[str, dict[str, Any]] = {}
        self.began_at = 0.0
        self.ended_at: float | None = None
        self.failure: BaseException | None = None
        self.workers = Watch(cluster, "pods", "airflow", f"dag_id={DAG_ID}")
        self.streams = Watch(cluster, "pods", "streams")
        self.applications = Watch(cluster, "sparkapplications", "streams")
        self._airflow = airflow
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name=self.run_id)

    def __enter__(self) -> "Run":
        for watch in (self.workers, self.streams, self.applications):
            watch.__enter__()
        self._airflow.ask(lambda airflow: airflow.unpause(DAG_ID))
        self.began_at = time.time()
        self._airflow.ask(lambda airflow: airflow.trigger(DAG_ID, self.run_id, self.options.parameters))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(120)
        for watch in (self.workers, self.streams, self.applications):
            watch.__exit__()

    def wait_for_task(self, name: str, states: tuple[str, ...], seconds: float, attempt: int = 1) -> None:
        """Wait until a task is in one of the states, in this try or a later one. Raises TooLongError."""

        def there() -> bool:
            task = self.tasks.get(name, {})
            tries = task.get("try_number") or 0
            return tries > attempt or (tries == attempt and task.get("state") in states)

        eventually(there, f"{name} to be {' or '.join(states)} in try {attempt}", seconds, else_=self.describe)

    def wait(self, seconds: float) -> str:
        """Wait for the end of the run; return its state. Raises TooLongError."""
        eventually(lambda: self.ended_at, f"the end of {self.run_id}", seconds, else_=self.describe)
        return self.state

    def describe(self) -> str:
        """Say how the run stands."""
        tasks = ", ".join(
            f"{name} {task.get('state')} (try {task.get('try_number')})" for name, task in self.tasks.items()
        )
        trouble = f"; following it failed: {self.failure!r}" if self.failure else ""
        return f"The run is {self.state}: {tasks}{trouble}."

    def result(self, task: str) -> Any:
        """Return what a task returned."""
        return self._airflow.ask(lambda airflow: airflow.result(DAG_ID, self.run_id, task))

    def log(self, task: str) -> list[str]:
        """Return the lines of a task's last try."""
        attempt = self.tasks[task]["try_number"]
        return self._airflow.ask(lambda airflow: airflow.log(DAG_ID, self.run_id, task, attempt))

    def batches(self, bucket: Bucket) -> list[dict[str, Any]]:
        """Return what the report keeps of each batch of the run's stream, oldest first."""
        return bucket.read_json(f"reports/{run_folder(self.run_id)}/progress.json")

    def application_was(self, state: str) -> float | None:
        """Return when this run's SparkApplication was first seen in a state, in seconds since 1970; None: never."""
        for change in self.applications.changes:
            now = change.thing.get("status", {}).get("applicationState", {}).get("state")
            if change.at >= self.began_at and now == state and self._ours(change.thing):
                return change.at
        return None

    def _ours(self, thing: dict[str, Any]) -> bool:
        return any(str(note).endswith(self.run_id) for note in thing["metadata"].get("annotations", {}).values())

    def _follow(self) -> None:
        try:
            while not self._ended.is_set():
                tasks = self._airflow.ask(lambda airflow: airflow.tasks(DAG_ID, self.run_id))
                state = self._airflow.ask(lambda airflow: airflow.state(DAG_ID, self.run_id))
                for task in tasks:
                    self.queued.take(task)
                self.tasks = {name: task for name in TASKS for task in tasks if task["task_id"] == name}
                self.state = state
                if state in ("success", "failed"):
                    self.ended_at = time.time()
                    return
                self._ended.wait(POLL_SECONDS)
        except BaseException as error:
            self.failure = error
