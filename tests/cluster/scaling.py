"""A stream that begins with more work than its executor can take: when others come, and when they go."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.cluster.faults import is_ready, one
from tests.cluster.platform import Platform
from tests.cluster.streams import application
from tests.cluster.waiting import eventually

NAME = "scaled"
EXECUTORS = ("spark-role=executor", f"app.kubernetes.io/name={NAME}")
MOST = 3
"""Executors, as the manifest says."""
# What the manifest says in 15 s and a minute.
BACKLOG_SECONDS = 2
IDLE_SECONDS = 10
TASKS = 96
"""Of each batch's aggregation: many seconds of work for the two task slots of one executor."""
COMMITS = "checkpoints/{}/event-windows/commits/"
SCALE_SECONDS = 240


@dataclass(frozen=True)
class Scaled:
    """What became of its executors."""

    most: int
    """How many were ready at the same time."""
    up: float
    """Seconds from the first executor's being ready until a second one was."""
    down: float
    """Seconds from the end of the last batch until one executor was left."""
    table: str
    """What the stream has written, as it is named in the bucket."""


def scale_a_stream(platform: Platform) -> Scaled:
    """Let a stream read the whole topic of events with many tasks, and then nothing; watch its executors.

    It goes on: `remove` ends it.

    Raises:
        TooLongError: no executor came, or none went, in time.
    """
    remove(platform)
    # A checkpoint and a table that no earlier session has left.
    key = f"{NAME}-{datetime.now(UTC):%Y%m%d%H%M%S}"
    document = application(NAME, {"application": key, "spark_conf.spark.sql.shuffle.partitions": str(TASKS)})
    document["spec"]["sparkConf"] |= {
        "spark.dynamicAllocation.schedulerBacklogTimeout": f"{BACKLOG_SECONDS}s",
        "spark.dynamicAllocation.sustainedSchedulerBacklogTimeout": f"{BACKLOG_SECONDS}s",
        "spark.dynamicAllocation.executorIdleTimeout": f"{IDLE_SECONDS}s",
    }
    document["spec"]["dynamicAllocation"]["shuffleTrackingTimeout"] = IDLE_SECONDS * 1000
    platform.cluster.kubectl("create", "--filename=-", given=document)
    try:
        one(platform, "streams", EXECUTORS)
        began = time.monotonic()
        eventually(
            lambda: sum(map(is_ready, executors(platform))) >= 2,
            "a second executor",
            SCALE_SECONDS,
            else_=lambda: state(platform),
        )
        up = time.monotonic() - began
        most = 2

        def one_is_left() -> bool:
            nonlocal most
            pods = executors(platform)
            most = max(most, sum(map(is_ready, pods)))
            return len(pods) == 1

        eventually(one_is_left, "the others to go", SCALE_SECONDS, else_=lambda: state(platform))
        return Scaled(most, up, time.time() - platform.bucket.newest(COMMITS.format(key)), f"tables/{key}")
    except BaseException:
        remove(platform)
        raise


def remove(platform: Platform) -> None:
    """Delete the stream and wait for its end."""
    platform.cluster.kubectl("delete", "sparkapplication", NAME, "--namespace=streams", "--ignore-not-found")
    eventually(
        lambda: not platform.pods("streams", f"app.kubernetes.io/name={NAME}"), "its pods to be gone", SCALE_SECONDS
    )


def executors(platform: Platform) -> list[dict[str, Any]]:
    """Return the pods of its executors, whatever they do."""
    return platform.pods("streams", *EXECUTORS)


def state(platform: Platform) -> str:
    """Say how its executors stand."""
    return ", ".join(f"{pod['metadata']['name']} is {pod['status'].get('phase')}" for pod in executors(platform))
