"""The alert rules as the chart renders them."""

from pathlib import Path
from typing import Any

import yaml

from tests.charts.render import CHART, by_name, render_chart


def _names() -> list[str]:
    """Names of all rules, from the chart's files: tests are collected before anything is rendered."""
    files = [yaml.safe_load(path.read_text()) for path in sorted((CHART / "files" / "rules").glob("*.yaml"))]
    rules = [rule for file in files for group in file["groups"] for rule in group["rules"]]
    return [rule.get("alert") or rule["record"] for rule in rules]


RULE_NAMES = _names()


def rule_groups(values: dict[str, Any] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Return the groups of each PrometheusRule, by its name without that of the release."""
    rules = by_name(render_chart(values), "PrometheusRule")
    return {name.removeprefix("millrace-"): rule["spec"]["groups"] for name, rule in rules.items()}


def rules_by_name() -> dict[str, dict[str, Any]]:
    """Return all rules of the default values, alerts and recordings, by their names."""
    rules = [rule for file in rule_groups().values() for group in file for rule in group["rules"]]
    return {rule.get("alert") or rule["record"]: rule for rule in rules}


def alerts(groups: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return the alert rules by their names."""
    rules = [rule for file in groups.values() for group in file for rule in group["rules"] if "alert" in rule]
    return {rule["alert"]: rule for rule in rules}


def write(groups: list[dict[str, Any]], path: Path) -> Path:
    """Write a file of rules as Prometheus reads it."""
    path.write_text(yaml.safe_dump({"groups": groups}))
    return path
