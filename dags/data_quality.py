"""
### Data quality of a table

Every hour the rules of a table (`dags/millrace/rules/<rules>.yaml`) are checked on its last 24 hours: completeness
(at least 95 % of the rows), nulls, duplicates and outliers (at most 5 % each), accuracy, timeliness (newest row younger
than 24 hours), and whether columns and types are as agreed.

If the newest row is too old, only that is said (`stale_data`): of the shares of old rows nobody would learn anything.
Otherwise a report is written to `reports/data_quality/<run id>/report.html`. Each broken rule goes to the topic
`data-quality-alerts`, and people are told once of all of them. A run that finds bad data has done its work and
succeeds.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, get_current_context, task

from millrace.callbacks import announce_failure, announce_retry, announce_success
from millrace.config import retry_delay

with DAG(
    dag_id="data_quality",
    description="Checks a table against its rules: a report, and alerts on what is broken.",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 * * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=50),
    tags=["quality", "delta", "alerts"],
    params={
        "rules": Param("market_data", type="string", pattern="^[a-z0-9_]+$", description="Which rules: a table's.")
    },
    default_args={
        "owner": "data",
        "retries": 3,
        "retry_delay": retry_delay(),
        "execution_timeout": timedelta(minutes=10),
        "on_retry_callback": announce_retry,
    },
    on_success_callback=announce_success,
    on_failure_callback=announce_failure,
) as dag:

    @task(pool="tables_pool")
    def measure_age() -> dict:
        """Say how old the newest row is."""
        from millrace import quality_steps

        return quality_steps.measure_age(get_current_context())

    @task.branch
    def is_fresh(measured: dict) -> str:
        """Choose the path."""
        return "check_rules" if measured["fresh"] else "stale_data"

    @task(pool="tables_pool")
    def check_rules(measured: dict) -> dict:
        """Check all rules and write the report."""
        from millrace import quality_steps

        return quality_steps.check_rules(measured, get_current_context())

    @task
    def stale_data(measured: dict) -> dict:
        """Say only that the data is too old."""
        from millrace import quality_steps

        return quality_steps.describe_stale(measured, get_current_context())

    @task(trigger_rule="none_failed_min_one_success")
    def alert(checked: dict | None, stale: dict | None) -> dict:
        """Send what is broken to the topic, and tell people."""
        from millrace import quality_steps

        return quality_steps.alert(checked or stale or {}, get_current_context())

    measured = measure_age()
    checked, stale = check_rules(measured), stale_data(measured)
    is_fresh(measured) >> [checked, stale]
    alert(checked, stale)
