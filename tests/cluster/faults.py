"""Ends parts of the platform while a run streams, one after the other, and measures how long each takes to go on."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.lines import NoWayError
from tests.cluster.platform import Platform
from tests.cluster.runs import APPLICATION, Run
from tests.cluster.waiting import TooLongError, eventually

RECOVERY_SECONDS = 240
"""More than any part may need on a small machine, retries that wait included."""
HEARTBEAT_SECONDS = 300
"""Without a sign of life for so long Airflow gives a task up, even if nobody tells it of the pod's end: its default."""
S3_AWAY_SECONDS = 60
KILLED_TASK = "stop_pipeline"
STOP_REQUEST = f"control/{APPLICATION}/stop"
"""What that task leaves in the storage before it waits for the driver's end, which takes seconds."""
SIGNS = {
    "scheduler": "scheduler's pod deleted, until the next task runs",
    "executor": "executor's pod killed, until the stream commits with another",
    "driver": "driver's pod killed, until another commits",
    "broker": "broker's pod deleted, until another is ready and the stream commits",
    "kubelet": "kubelet restarted, until it serves and the stream commits",
    "object store": "object store back after a minute away, until the stream commits",
    "worker": "pod of a task killed in mid-task, until its next try runs",
}
"""The faults in the order in which they are tried, and what is measured of each."""
STARTED = ("running", "deferred", "success")

DRIVER = ("spark-role=driver", f"app.kubernetes.io/name={APPLICATION}")
EXECUTOR = ("spark-role=executor", f"app.kubernetes.io/name={APPLICATION}")
BROKER = ("strimzi.io/cluster=millrace", "strimzi.io/name=millrace-kafka")
SCHEDULER = ("tier=airflow", "component=scheduler")


@dataclass
class Recovery:
    """What became of one fault."""

    seconds: float | None = None
    """From the fault to the sign that things go on; None if there was none."""
    failure: str = ""
    """Why it is not known."""


@dataclass
class Faults:
    """What became of all faults of a run, by their names."""

    found: dict[str, Recovery] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Recovery:
        return self.found.get(name, Recovery(failure="it was not tried: the run had ended before"))

    def attempt(self, name: str, fault: Callable[[], float]) -> None:
        """Do one; a fault from which nothing recovers does not keep the next ones from being tried."""
        try:
            self.found[name] = Recovery(fault())
        except NotImplementedError as error:
            self.found[name] = Recovery(failure=f"not possible in this cluster: {error}")
        except (TooLongError, NoWayError, RuntimeError) as error:
            self.found[name] = Recovery(failure=str(error))


def before_the_stream(platform: Platform, run: Run, faults: Faults) -> None:
    """The fault of those who start tasks, while there are tasks to start."""
    run.wait_for_task("check_kafka", STARTED, RECOVERY_SECONDS)
    faults.attempt("scheduler", lambda: scheduler(platform, run))


def while_it_streams(platform: Platform, run: Run, faults: Faults) -> None:
    """The faults of those who carry data."""
    # By then the checkpoint of an earlier run is gone. No task is waited for: the replay goes on meanwhile.
    run.wait_for_task("start_generator", ("success",), RECOVERY_SECONDS)
    eventually(
        lambda: platform.bucket.last_commit() > 0, "a second batch", 2 * RECOVERY_SECONDS, every=1, else_=run.describe
    )
    kinds: dict[str, Callable[[], float]] = {
        "executor": lambda: stream_goes_on_without(platform, "streams", EXECUTOR, grace=1),
        "driver": lambda: stream_goes_on_without(platform, "streams", DRIVER, grace=1),
        "broker": lambda: stream_goes_on_without(platform, "millrace", BROKER),
        "kubelet": lambda: kubelet(platform),
        "object store": lambda: object_store(platform),
    }
    for name, fault in kinds.items():
        if run.ended_at is None:
            faults.attempt(name, fault)


def after_the_stream(platform: Platform, run: Run, faults: Faults) -> None:
    """The fault of those who do tasks, in the one that works long enough to be caught in the middle of it."""
    run.wait_for_task("monitor_pipeline", ("success",), 4 * RECOVERY_SECONDS)
    faults.attempt("worker", lambda: kill_in_mid_task(platform, run))


def scheduler(platform: Platform, run: Run) -> float:
    """Delete the scheduler's pod between two tasks; return the seconds until the next task runs."""
    struck = time.monotonic()
    delete_pod(platform, "airflow", one(platform, "airflow", SCHEDULER))
    run.wait_for_task("create_topics", STARTED, RECOVERY_SECONDS)
    return time.monotonic() - struck


def kill_in_mid_task(platform: Platform, run: Run) -> float:
    """Kill the pod of the task that stops the stream while it waits for that; return the seconds to its next try."""
    eventually(
        lambda: platform.bucket.names(STOP_REQUEST), f"{KILLED_TASK} to be at work", 2 * RECOVERY_SECONDS, every=0.2
    )
    struck = time.monotonic()
    delete_pod(platform, "airflow", one(platform, "airflow", (f"task_id={KILLED_TASK}",)), grace=1)
    run.wait_for_task(KILLED_TASK, STARTED, RECOVERY_SECONDS + HEARTBEAT_SECONDS, attempt=2)
    return time.monotonic() - struck


def kubelet(platform: Platform) -> float:
    """Restart the kubelet; return the seconds until it serves again and the stream has gone on."""
    struck = time.monotonic()
    platform.cluster.restart_kubelet()
    stream_goes_on(platform)
    return time.monotonic() - struck


def object_store(platform: Platform) -> float:
    """Take the object store away for a minute; return the seconds from its return until the stream goes on."""
    scale_object_store(platform, 0)
    eventually(
        lambda: not platform.pods("millrace", "app.kubernetes.io/name=object-store"), "the object store to be gone", 90
    )
    time.sleep(S3_AWAY_SECONDS)
    back = time.monotonic()
    scale_object_store(platform, 1)
    stream_goes_on(platform)
    return time.monotonic() - back


def stream_goes_on_without(
    platform: Platform, namespace: str, selector: tuple[str, ...], grace: int | None = None
) -> float:
    """Delete a pod; return the seconds until another one has taken its place and the stream has gone on with it."""
    struck = time.monotonic()
    lost = one(platform, namespace, selector)
    delete_pod(platform, namespace, lost, grace)

    def replaced() -> bool:
        pods = platform.pods(namespace, *selector)
        return any(is_ready(pod) and pod["metadata"]["uid"] != lost["metadata"]["uid"] for pod in pods)

    eventually(replaced, f"another pod for {lost['metadata']['name']}", RECOVERY_SECONDS, every=1)
    stream_goes_on(platform)
    return time.monotonic() - struck


def stream_goes_on(platform: Platform) -> None:
    """Wait until the checkpoint has a batch that it does not have now. Raises TooLongError."""
    mark = platform.bucket.last_commit(RECOVERY_SECONDS)

    def further() -> bool:
        try:
            return platform.bucket.last_commit(patience=0) > mark
        except NoWayError:
            return False

    eventually(further, f"a batch after {mark}", RECOVERY_SECONDS)


def scale_object_store(platform: Platform, replicas: int) -> None:
    """Set how many pods the object store has."""
    platform.cluster.kubectl("scale", "statefulset/object-store", f"--replicas={replicas}", "--namespace", "millrace")


def one(platform: Platform, namespace: str, selector: tuple[str, ...]) -> dict[str, Any]:
    """Return the pod that is meant. Raises TooLongError if there is none that is ready."""
    return eventually(
        lambda: next((pod for pod in platform.pods(namespace, *selector) if is_ready(pod)), None),
        f"a ready pod of {', '.join(selector)}",
        RECOVERY_SECONDS,
    )


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod serves, and nobody has asked it to go."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")


def delete_pod(platform: Platform, namespace: str, pod: dict[str, Any], grace: int | None = None) -> None:
    """Delete a pod, with its own time to end or `grace` seconds, and don't wait for its end.

    With 0 seconds the object would be gone at once, while the program goes on.
    """
    more = [] if grace is None else [f"--grace-period={grace}"]
    name = pod["metadata"]["name"]
    platform.cluster.kubectl("delete", "pod", name, "--namespace", namespace, "--wait=false", *more)
