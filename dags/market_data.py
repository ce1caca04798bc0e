"""
### Prices into bars, every 15 minutes

Reads the records of the topic `market-data` that came in the run's interval: by their offsets, so that a retry or a
backfill reads the same ones, as long as the topic keeps them. The Delta table `market_data` gets each symbol's open,
high, low and close, its volume and mean price: a row for each source, symbol and `bar_minutes`.

| task | what it does |
|---|---|
| `market_hours` | which venues were open, by the calendars of `dags/millrace/venues.yaml` (crypto 24/7, XNYS, ...) |
| `wait_for_stragglers` | gives the interval's last records half a minute to arrive |
| `check_freshness` | fails if a venue is open and nothing came lately; skips the rest if all are closed |
| `process` | reads, checks against the contract, drops duplicates; counts what isn't used, names silent venues |
| `aggregate`, `store` | bars, in the place of those that the table has of this interval; joins small files once a day |
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.sensors.date_time import DateTimeSensorAsync
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, get_current_context, task
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from millrace.callbacks import announce_deadline, announce_failure, announce_retry, announce_success
from millrace.config import retry_delay
from millrace.intervals import interval_end

GRACE = timedelta(seconds=30)

with DAG(
    dag_id="market_data",
    description="Prices of the topic market-data into bars (open, high, low, close) in Delta.",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("*/15 * * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    tags=["market-data", "kafka", "delta"],
    user_defined_macros={"interval_end": interval_end},
    params={
        "bar_minutes": Param(5, enum=[1, 5, 15], description="Length of a bar."),
        "freshness_minutes": Param(
            10, type="integer", minimum=1, maximum=1440, description="While a venue is open, a record comes this often."
        ),
    },
    default_args={
        "owner": "data",
        "retries": 3,
        "retry_delay": retry_delay(),
        "execution_timeout": timedelta(minutes=10),
        "on_retry_callback": announce_retry,
    },
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=15),
        callback=AsyncCallback(announce_deadline, {"message": "not finished before the next one is due"}),
        name="finished before the next run",
    ),
    on_success_callback=announce_success,
    on_failure_callback=announce_failure,
) as dag:

    @task
    def market_hours() -> list:
        """Say which venues were open."""
        from millrace import market_steps

        return market_steps.market_hours(get_current_context())

    wait_for_stragglers = DateTimeSensorAsync(
        task_id="wait_for_stragglers",
        target_time=f"{{{{ interval_end() + macros.timedelta(seconds={GRACE.total_seconds():g}) }}}}",
    )

    @task
    def check_freshness() -> dict:
        """Find the interval's records, and see that they are not too old."""
        from millrace import market_steps

        return market_steps.check_freshness(GRACE, get_current_context())

    @task(pool="tables_pool")
    def process(ranges: dict) -> dict:
        """Read and clean prices."""
        from millrace import market_steps

        return market_steps.process(ranges, get_current_context())

    @task(pool="tables_pool")
    def aggregate() -> int:
        """Make bars of them."""
        from millrace import market_steps

        return market_steps.aggregate(get_current_context())

    @task(pool="tables_pool")
    def store() -> dict:
        """Put them in the place of the interval's."""
        from millrace import market_steps

        return market_steps.store(get_current_context())

    ranges = check_freshness()
    market_hours() >> wait_for_stragglers >> ranges
    process(ranges) >> aggregate() >> store()
