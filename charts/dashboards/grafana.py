"""What a dashboard is made of, and Grafana's JSON for it."""

import json
from dataclasses import dataclass, field
from typing import Any

WIDTH = 24
"""Columns of Grafana's grid."""
HEIGHT = 8
"""Rows of the grid that a panel takes."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, ORANGE, RED = "green", "orange", "red"


@dataclass(frozen=True)
class Query:
    """One query of a panel."""

    expression: str
    """PromQL. $name is a variable of the dashboard, $__rate_interval the shortest range that makes sense."""
    legend: str = ""
    """What its series are called; {{label}} is a label of theirs."""


@dataclass(frozen=True)
class Panel:
    """A chart, or a number if `number` is set."""

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """Grafana's name of the unit."""
    description: str = ""
    number: bool = False
    """Show the last value of the query, without its course."""
    steps: tuple[float, ...] = ()
    """Values from which it is orange, then red. Where the first is the larger one, smaller values are worse."""
    width: int = 8
    maximum: float | None = None
    """The largest value that makes sense, where the axis should always reach it."""


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """What the reader can choose: the values that a label of a metric has."""

    name: str
    metric: str
    label: str

    @property
    def query(self) -> str:
        """The query in Grafana's words."""
        return f"label_values({self.metric}, {self.label})"


@dataclass(frozen=True)
class Dashboard:
    """A dashboard; its uid, and so its address, follows from the name."""

    name: str
    title: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = field(default=())


def render(dashboard: Dashboard) -> str:
    """Return a dashboard as Grafana's JSON, the same bytes each time."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row in dashboard.rows:
        panels.append(_row(row.title, len(panels) + 1, y))
        y += 1
        x = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHT
            panels.append(_panel(panel, len(panels) + 1, x, y))
            x += panel.width
        y += HEIGHT
    content = {
        "uid": f"millrace-{dashboard.name}",
        "title": f"Millrace / {dashboard.title}",
        "tags": ["millrace"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["millrace"], "title": "Millrace", "asDropdown": True, "keepTime": True}
        ],
        "templating": {"list": [_data_source(), *map(_variable, dashboard.variables)]},
        "annotations": {"list": []},
        "panels": panels,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Source", "type": "datasource", "query": "prometheus", "hide": 0}


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": variable.query, "refId": variable.name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "sort": 1,
    }


def _row(title: str, number: int, y: int) -> dict[str, Any]:
    place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": _thresholds(panel.steps)}
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.number:
        options: dict[str, Any] = {
            "colorMode": "background" if panel.steps else "value",
            "graphMode": "none",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    else:
        defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": False}
        options = {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return {
        "id": number,
        "type": "stat" if panel.number else "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "instant": panel.number,
                "range": not panel.number,
            }
            for place, query in enumerate(panel.queries)
        ],
    }


def _thresholds(steps: tuple[float, ...]) -> dict[str, Any]:
    if not steps:
        return {"mode": "absolute", "steps": [{"color": GREEN, "value": None}]}
    colors = [GREEN, ORANGE, RED] if len(steps) == 2 else [GREEN, RED]
    if len(steps) == 2 and steps[0] > steps[1]:
        colors, steps = colors[::-1], steps[::-1]
    values = [None, *steps]
    return {
        "mode": "absolute",
        "steps": [{"color": color, "value": value} for color, value in zip(colors, values, strict=True)],
    }
