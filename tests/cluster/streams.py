"""Streams of the tests' own: event-windows under other names, so that they are told from that of the main job."""

from collections.abc import Mapping
from typing import Any

import yaml

from embedded.paths import REPOSITORY


def application(name: str, settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the SparkApplication of event-windows under another name, never started again, with a table of its own.

    `settings` are what `--set` takes, by name; `application` among them names checkpoint and table, else `name` does.
    """
    manifest = REPOSITORY / "spark-apps" / "event-windows" / "application.yaml"
    document = yaml.safe_load(manifest.read_text())
    document["metadata"] |= {"name": name, "namespace": "streams"}
    for labels in (
        document["metadata"]["labels"],
        *(document["spec"][role]["labels"] for role in ("driver", "executor")),
    ):
        labels["app.kubernetes.io/name"] = name
    key = settings.get("application", name)
    changes = {"application": key, "sinks": "{delta: {path: '${MILLRACE_STORAGE}/tables/" + key + "'}}", **settings}
    document["spec"]["arguments"] += [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    document["spec"]["restartPolicy"] = {"type": "Never"}
    return document
