"""
### COVID-19 figures by area: extract, transform, load, validate

Every day at 06:00 UTC the daily figures of the UKHSA data dashboard's public API are loaded into the Delta table
`covid`: those of the day that ended, and of `revision_days` before it, because they are corrected as reports come in.
What is new or corrected is sent to the topic `covid-updates`, what can't be used to `covid-updates-dead-letter` with
the reason.

A run takes the place of what the table holds of its days, series by series; so retries, repeated runs and backfills
in any order leave each figure there once. Backfill a range with

    airflow backfill create --dag-id covid_etl --from-date 2025-01-01 --to-date 2025-03-31

The API's address is the host of the connection `covid_api`, if there is one. Failures are told by e-mail
(`alerts_email`), Slack and PagerDuty.
"""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, get_current_context, task
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from millrace.callbacks import announce_deadline, announce_failure, announce_retry, announce_success
from millrace.config import retry_delay

with DAG(
    dag_id="covid_etl",
    description="Daily COVID-19 figures by area, with corrections, into Delta and Kafka.",
    doc_md=__doc__,
    # A data interval of a day: Airflow 3 gives a plain cron string none.
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    tags=["etl", "covid", "delta"],
    params={
        "geography_types": Param(["Nation"], type="array", items={"type": "string"}, description="Kinds of areas."),
        "metrics": Param(
            ["COVID-19_cases_casesByDay", "COVID-19_deaths_ONSByDay"],
            type="array",
            items={"type": "string"},
            minItems=1,
            description="What is loaded, by the API's names.",
        ),
        "revision_days": Param(
            14, type="integer", minimum=0, maximum=366, description="Days before the interval that are loaded again."
        ),
    },
    default_args={
        "owner": "data",
        "retries": 3,
        "retry_delay": retry_delay(),
        "execution_timeout": timedelta(minutes=20),
        "on_retry_callback": announce_retry,
    },
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(hours=1),
        callback=AsyncCallback(announce_deadline, {"message": "not finished an hour after it was queued"}),
        name="finished within an hour",
    ),
    on_success_callback=announce_success,
    on_failure_callback=announce_failure,
) as dag:
    # One at a time, whatever is backfilled: the API is public and limits its callers.
    @task(pool="covid_api")
    def extract() -> dict:
        """Fetch the figures of the run's days."""
        from millrace import covid_steps

        return covid_steps.extract(get_current_context())

    @task
    def transform() -> dict:
        """Turn figures into rows, and say which can't be used."""
        from millrace import covid_steps

        return covid_steps.transform(get_current_context())

    @task(pool="tables_pool")
    def load() -> dict:
        """Send changes to Kafka, then replace the days in the table."""
        from millrace import covid_steps

        return covid_steps.load(get_current_context())

    @task(pool="tables_pool")
    def validate(loaded: dict) -> dict:
        """Check that each figure is there once, and complete."""
        from millrace import covid_steps

        return covid_steps.validate(loaded, get_current_context())

    loaded = load()
    extract() >> transform() >> loaded
    validate(loaded)
