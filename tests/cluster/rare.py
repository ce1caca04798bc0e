"""Series that a run that goes well does not bring, and where they are tested instead."""

from dataclasses import dataclass

from tests.cluster.platform import Platform
from tests.monitoring.promql import selectors


@dataclass(frozen=True)
class Rare:
    """A series that is only there once something has gone wrong, or where something else is installed."""

    metric: str
    label: str = ""
    value: str = ""
    why: str = ""

    def is_read_by(self, node: dict) -> bool:
        matchers = {(each["name"], each["value"]) for each in node["matchers"]}
        return ("__name__", self.metric) in matchers and (not self.label or (self.label, self.value) in matchers)


FAILED = "no task and no run fails for good here; tests/monitoring has this rule with and without"
FEEDS = "only a live feed has it, and its source is out of reach here; tests/unit/ingest has it from feeds that run"
RARE = (
    Rare("dag_state:airflow_ti_finish:increase1h", "state", "failed", FAILED),
    Rare("airflow_dagrun_duration_seconds_count", "state", "failed", FAILED),
    Rare("airflow_deadline_alerts_deadline_missed_total", why="no run lasts until its deadline here"),
    Rare("airflow_task_instances_without_heartbeats_killed_total", why="no task loses its heartbeat here"),
    Rare("airflow_dagrun_schedule_delay_seconds_sum", why="the DAG has no schedule"),
    Rare("airflow_dagrun_schedule_delay_seconds_count", why="the DAG has no schedule"),
    Rare("spark_application_failure_count", why="no application fails in a run that goes well"),
    Rare("spark_application_failed_submission_count", why="no application fails in a run that goes well"),
    Rare("spark_executor_failure_count", why="no executor fails in a run that goes well"),
    Rare("ingest_quiet", why=FEEDS),
    Rare("ingest_ready", why=FEEDS),
    Rare("ALERTS", "severity", "critical", "nothing critical fires in a run that goes well"),
)


def reason(platform: Platform, expression: str) -> str | None:
    """Return why an expression may return nothing; None if it must return something."""
    for node in selectors(platform.prometheus.ask("parse_query", query=expression)):
        for each in RARE:
            if each.is_read_by(node):
                return f"{each.metric}: {each.why}"
    return None
