"""A stream that is killed for good, so that the alert on that can be seen.

It has a name of its own, so that what fires on it can be told from what fires on others.
"""

import time
from dataclasses import dataclass
from typing import Any

import yaml

from embedded.paths import REPOSITORY
from tests.cluster.faults import delete_pod, one
from tests.cluster.platform import Platform
from tests.cluster.waiting import eventually

NAME = "doomed"
START_SECONDS = 300


@dataclass(frozen=True)
class Killed:
    """When it was killed, in seconds since 1970."""

    at: float


def application() -> dict[str, Any]:
    """Return event-windows under another name: it reads what comes, and is not started again."""
    manifest = REPOSITORY / "spark-apps" / "event-windows" / "application.yaml"
    document = yaml.safe_load(manifest.read_text())
    document["metadata"] |= {"name": NAME, "namespace": "streams"}
    for labels in (
        document["metadata"]["labels"],
        *(document["spec"][role]["labels"] for role in ("driver", "executor")),
    ):
        labels["app.kubernetes.io/name"] = NAME
    changes = {
        "application": NAME,
        "source.starting_offsets": "latest",
        "sinks": "{delta: {path: '${MILLRACE_STORAGE}/tables/" + NAME + "'}}",
    }
    document["spec"]["arguments"] += [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    document["spec"]["restartPolicy"] = {"type": "Never"}
    return document


def kill_a_stream(platform: Platform) -> Killed:
    """Start it, wait until the alert's rule has seen that it answers (it looks each 30 s), kill its driver."""
    platform.cluster.kubectl("delete", "sparkapplication", NAME, "--namespace=streams", "--ignore-not-found")
    platform.cluster.kubectl("create", "--filename=-", given=application())
    seen = f'application:spark_driver_answered:last15m{{application="{NAME}"}}'
    eventually(lambda: platform.prometheus.query(seen), f"the rules to see that {NAME} answers", START_SECONDS, every=2)
    driver = one(platform, "streams", ("spark-role=driver", f"app.kubernetes.io/name={NAME}"))
    delete_pod(platform, "streams", driver, grace=1)
    return Killed(time.time())
