"""Reads what exporters serve, and the lists of what they serve in exported/."""

from collections.abc import Mapping
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.charts.render import by_name, render_chart
from tests.monitoring.promql import Labels

EXPORTED = Path(__file__).with_name("exported")
TARGET_LABELS = frozenset({"job", "namespace", "pod", "container", "endpoint", "instance"})
"""What Prometheus' operator gives the metrics of every PodMonitor."""
ALERTS = frozenset({"alertname", "alertstate", "severity"})


def served(text: str) -> dict[str, Labels]:
    """Return the metrics of an exposition, each with all labels that one of its series has."""
    found: dict[str, Labels] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, frozenset()) | frozenset(sample.labels)
    return found


def of_registry(registry: CollectorRegistry) -> dict[str, Labels]:
    """Return what a registry of ours serves."""
    return served(generate_latest(registry).decode())


def listed(name: str) -> dict[str, Labels]:
    """Return the metrics of a list in exported/."""
    content = yaml.safe_load((EXPORTED / f"{name}.yaml").read_text())
    return {metric: frozenset(labels) for metric, labels in content["metrics"].items()}


def monitored_labels() -> dict[str, Labels]:
    """Return the labels that each job's targets have, as the rendered PodMonitors say."""
    found = {}
    for name, monitor in by_name(render_chart(), "PodMonitor").items():
        added = {
            each["targetLabel"]
            for endpoint in monitor["spec"]["podMetricsEndpoints"]
            for each in endpoint["relabelings"]
            if "targetLabel" in each
        }
        found[name.removeprefix("millrace-")] = TARGET_LABELS | added
    return found


def everything(ours: Mapping[str, Mapping[str, Labels]]) -> dict[str, Labels]:
    """Return the labels of every metric that Prometheus has once all is scraped.

    Args:
        ours: what our own code exports, by job.
    """
    targets = monitored_labels()
    known: dict[str, Labels] = {"up": frozenset().union(*targets.values()), "ALERTS": ALERTS}
    for job, metrics in ours.items():
        for metric, labels in metrics.items():
            known[metric] = known.get(metric, frozenset()) | labels | targets[job]
    for path in EXPORTED.glob("*.yaml"):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        for metric, labels in listed(path.stem).items():
            known[metric] = labels.union(*(targets[job] for job in jobs))
    return known
