"""A stream that is killed for good, so that the alert on that can be seen.

It has a name of its own, so that what fires on it can be told from what fires on others.
"""

import time
from dataclasses import dataclass

from tests.cluster.faults import delete_pod, one
from tests.cluster.platform import Platform
from tests.cluster.streams import application
from tests.cluster.waiting import eventually

NAME = "doomed"
START_SECONDS = 300


@dataclass(frozen=True)
class Killed:
    """When it was killed, in seconds since 1970."""

    at: float


def kill_a_stream(platform: Platform) -> Killed:
    """Start a stream that reads what comes, wait until the rules have seen that it answers, kill its driver.

    They look each 30 s.
    """
    platform.cluster.kubectl("delete", "sparkapplication", NAME, "--namespace=streams", "--ignore-not-found")
    platform.cluster.kubectl("create", "--filename=-", given=application(NAME, {"source.starting_offsets": "latest"}))
    seen = f'application:spark_driver_answered:last15m{{application="{NAME}"}}'
    eventually(lambda: platform.prometheus.query(seen), f"the rules to see that {NAME} answers", START_SECONDS, every=2)
    driver = one(platform, "streams", ("spark-role=driver", f"app.kubernetes.io/name={NAME}"))
    delete_pod(platform, "streams", driver, grace=1)
    return Killed(time.time())
