"""### The batch layer of the Lambda architecture

Starts when a run of `streaming_pipeline` has verified its windows, and takes them over:

1. `aggregate_historical_data`: events by hour and type into the Delta table `event_hours`, which keeps all ranges of
   input that were ever streamed. A range again, or one that overlaps others, takes their place.
2. `train_ml_models`: a forecast of the next day's events by hour and type. It goes to the model registry
   (`events-by-hour`) only if it beats "as yesterday" and "as a week ago" on hours that it hasn't seen. With less than
   two weeks of history it is skipped.
3. `generate_reports`: an HTML report of history and stream merged, at `reports/batch_layer/<run>/`.

Readers ask `millrace.batch.serve()`: the history, and what the stream has computed since. By hand it takes what the
stream's table holds.
"""

from datetime import timedelta

from airflow.sdk import DAG, get_current_context, task

from millrace import assets
from millrace.batch_steps import aggregate_windows, train_forecast, write_reports
from millrace.callbacks import announce_failure, announce_success
from millrace.config import retry_delay

with DAG(
    dag_id="batch_layer",
    description="What the stream has counted, kept by hour; a forecast; a report.",
    doc_md=__doc__,
    schedule=[assets.EVENT_WINDOWS],
    catchup=False,
    # Two runs at once would be two writers of one table.
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    tags=["lambda", "batch", "machine-learning"],
    default_args={
        "owner": "batch",
        "pool": "tables_pool",
        "retries": 3,
        "retry_delay": retry_delay(),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=15),
    },
    on_success_callback=announce_success,
    on_failure_callback=announce_failure,
) as dag:

    @task(inlets=[assets.table("event_windows")], outlets=assets.both(assets.EVENT_HOURS))
    def aggregate_historical_data() -> dict:
        """Take the stream's windows into the history, by hour."""
        return aggregate_windows(assets.EVENT_WINDOWS, get_current_context())

    @task(inlets=[assets.table("event_hours")], outlets=[assets.model("events-by-hour")])
    def train_ml_models() -> dict:
        """Train a forecast, and deploy it if it is of use."""
        return train_forecast(get_current_context())

    # Without a forecast if the history is too short for one.
    @task(trigger_rule="none_failed", inlets=[assets.table("event_hours"), assets.table("event_windows")])
    def generate_reports(aggregated: dict, trained: dict | None) -> dict:
        """Write the report of history and stream."""
        return write_reports(aggregated, trained, get_current_context())

    aggregated, trained = aggregate_historical_data(), train_ml_models()
    aggregated >> trained
    generate_reports(aggregated, trained)
