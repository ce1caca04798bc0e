"""Airflow: do tasks succeed, how long do runs take, do its parts live?"""

from charts.dashboards.grafana import Dashboard, Panel, Query, Row, Variable

CHOSEN = 'dag_id=~"$dag"'


def _mean(name: str, by: str, matcher: str = "") -> str:
    """Mean of a duration, over the last hour, of what ended in it."""
    selector = f"{{{matcher}}}" if matcher else ""
    return (
        f"sum by ({by}) (increase(airflow_{name}_seconds_sum{selector}[1h])) "
        f"/ sum by ({by}) (increase(airflow_{name}_seconds_count{selector}[1h]))"
    )


def _heartbeat(part: str, name: str) -> Query:
    return Query(f"sum(rate(airflow_{name}_heartbeat_total[$__rate_interval])) * 60", part)


DASHBOARD = Dashboard(
    name="airflow",
    title="Airflow",
    variables=(Variable("dag", "airflow_ti_finish_total", "dag_id"),),
    rows=(
        Row(
            "Tasks",
            (
                Panel(
                    "Success rate, last hour",
                    (
                        Query(
                            f'sum by (dag_id) (dag_state:airflow_ti_finish:increase1h{{state="success", {CHOSEN}}}) / '
                            f"sum by (dag_id) (dag_state:airflow_ti_finish:increase1h"
                            f'{{state=~"success|failed", {CHOSEN}}})',
                            "{{dag_id}}",
                        ),
                    ),
                    unit="percentunit",
                    maximum=1,
                ),
                Panel(
                    "Ended within an hour",
                    (Query(f"sum by (state) (dag_state:airflow_ti_finish:increase1h{{{CHOSEN}}})", "{{state}}"),),
                ),
                Panel(
                    "Failed within an hour",
                    (
                        Query(
                            f'sum by (dag_id) (dag_state:airflow_ti_finish:increase1h{{state="failed", {CHOSEN}}})',
                            "{{dag_id}}",
                        ),
                    ),
                ),
                Panel(
                    "Duration",
                    (Query(_mean("task_duration", "dag_id, task_id", CHOSEN), "{{dag_id}} {{task_id}}"),),
                    unit="s",
                    width=12,
                ),
                Panel(
                    "Queued for",
                    (Query(f"dag:airflow_ti_queued_seconds:mean15m{{{CHOSEN}}}", "{{dag_id}}"),),
                    unit="s",
                    description="Mean of a quarter of an hour. With the KubernetesExecutor: until the pod runs.",
                    width=12,
                ),
            ),
        ),
        Row(
            "Runs of DAGs",
            (
                Panel(
                    "Duration of runs",
                    (Query(_mean("dagrun_duration", "dag_id, state", CHOSEN), "{{dag_id}} {{state}}"),),
                    unit="s",
                ),
                Panel(
                    "Later than scheduled by",
                    (Query(_mean("dagrun_schedule_delay", "dag_id", CHOSEN), "{{dag_id}}"),),
                    unit="s",
                ),
                Panel("Under way", (Query("max(airflow_scheduler_dagruns_running)", "runs"),)),
            ),
        ),
        Row(
            "Its parts",
            (
                Panel(
                    "Heartbeats a minute",
                    (
                        _heartbeat("scheduler", "scheduler"),
                        _heartbeat("DAG processor", "dag_processor"),
                        _heartbeat("triggerer", "triggerer"),
                    ),
                ),
                Panel(
                    "A round of the scheduler takes",
                    (Query(_mean("scheduler_scheduler_loop_duration", "pod"), "{{pod}}"),),
                    unit="s",
                ),
                Panel(
                    "Tasks that wait, by pool",
                    (Query("max by (pool_name) (airflow_pool_starving_tasks)", "{{pool_name}}"),),
                ),
                Panel(
                    "Free slots, by pool",
                    (Query("max by (pool_name) (airflow_pool_open_slots)", "{{pool_name}}"),),
                ),
                Panel(
                    "Tasks of the executors",
                    (
                        Query(
                            "sum by (executor_class_name) (airflow_executor_running_tasks)",
                            "{{executor_class_name}} run",
                        ),
                        Query(
                            "sum by (executor_class_name) (airflow_executor_queued_tasks)",
                            "{{executor_class_name}} wait",
                        ),
                    ),
                ),
                Panel(
                    "Triggers under way",
                    (Query("sum(airflow_triggers_running)", "triggers"),),
                ),
            ),
        ),
        Row(
            "DAG files",
            (
                Panel("Can't be read", (Query("max(airflow_dag_processing_import_errors)"),), number=True, steps=(1,)),
                Panel(
                    "Take to read",
                    (Query(_mean("dag_processing_last_duration", "file_name"), "{{file_name}}"),),
                    unit="s",
                ),
                Panel("DAGs", (Query("max(airflow_dagbag_size)"),), number=True),
            ),
        ),
        Row(
            "PostgreSQL",
            (
                Panel(
                    "Connections",
                    (Query('sum by (state) (pg_stat_activity_count{job="postgresql"})', "{{state}}"),),
                ),
                Panel(
                    "Transactions a second",
                    (
                        Query(
                            "sum by (datname) (rate(pg_stat_database_xact_commit[$__rate_interval]))",
                            "{{datname}} committed",
                        ),
                        Query(
                            "sum by (datname) (rate(pg_stat_database_xact_rollback[$__rate_interval]))",
                            "{{datname}} rolled back",
                        ),
                    ),
                    unit="cps",
                ),
                Panel(
                    "Size of databases",
                    (Query("sum by (datname) (pg_database_size_bytes)", "{{datname}}"),),
                    unit="bytes",
                ),
            ),
        ),
    ),
)
