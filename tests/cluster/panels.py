"""The panels of the dashboards, and their queries as Grafana sends them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from charts.dashboards.__main__ import DASHBOARDS, PLACE
from tests.cluster.interface import Cluster

INTERVAL = "2m"
"""What stands for $__rate_interval, the shortest range that makes sense."""


@dataclass(frozen=True)
class Panel:
    """A panel that shows something."""

    dashboard: str
    title: str
    expressions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.title}"


def panels_of(content: dict[str, Any]) -> Iterable[Panel]:
    """Yield the panels of a dashboard's JSON, with everything chosen that the reader can choose."""
    variables = [each["name"] for each in content["templating"]["list"] if each["type"] == "query"]

    def filled(query: str) -> str:
        query = query.replace("$__rate_interval", INTERVAL)
        for name in variables:
            query = query.replace(f"${name}", ".*")
        return query

    for panel in content["panels"]:
        if panel["type"] != "row":
            yield Panel(content["title"], panel["title"], tuple(filled(each["expr"]) for each in panel["targets"]))


def panels_in(cluster: Cluster) -> list[Panel]:
    """Return the panels of the dashboards that Grafana finds in the cluster."""
    maps = cluster.get("configmaps", "--namespace=millrace", "--selector=grafana_dashboard=1")["items"]
    texts = [text for each in maps for text in each["data"].values()]
    return [panel for text in texts for panel in panels_of(json.loads(text))]


# Known before there is a cluster: tests are collected by them.
PANELS = [panel for each in DASHBOARDS for panel in panels_of(json.loads((PLACE / f"{each.name}.json").read_text()))]
