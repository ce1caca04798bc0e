"""A stream is killed for good, so that the alert on that can be seen.

It is one of the tests' own, whose name tells what fires on it from what fires on others.
"""

import time
from dataclasses import dataclass

from tests.cluster.faults import delete_pod, one
from tests.cluster.platform import Platform
from tests.cluster.waiting import eventually

SEEN_SECONDS = 300


@dataclass(frozen=True)
class Killed:
    """Which it was, and when it was killed, in seconds since 1970."""

    name: str
    at: float


def kill_a_stream(platform: Platform, name: str) -> Killed:
    """Wait until the rules have seen that a stream answers, and kill its driver.

    They look each 30 s.
    """
    seen = f'application:spark_driver_answered:last15m{{application="{name}"}}'
    eventually(lambda: platform.prometheus.query(seen), f"the rules to see that {name} answers", SEEN_SECONDS, every=2)
    driver = one(platform, "streams", ("spark-role=driver", f"app.kubernetes.io/name={name}"))
    delete_pod(platform, "streams", driver, grace=1)
    return Killed(name, time.time())
