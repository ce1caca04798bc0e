"""
### A first batch job

Runs the Spark application `hello-spark`, which counts the primes up to `limit` in `segments`, waits until it has
completed, reads its Delta table `primes` back, shows it in the log of `show_result`, and holds **every row** against a
sieve that is computed without Spark.

| parameter | meaning |
|---|---|
| `limit` | count the primes up to this number (78,498 up to a million) |
| `segments` | rows of the table, and tasks of the job |

Doing it twice replaces the table by the same.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, get_current_context, task

from millrace.callbacks import announce_failure, announce_success, stop_after_failure
from millrace.config import load_settings, retry_delay
from millrace.operators.batch import RunApplicationOperator

ROOT = load_settings().root
APPLICATION = "hello-spark"
TABLE = "primes"

with DAG(
    dag_id="hello_spark",
    description="A small batch job: primes counted by Spark, read back and checked.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=45),
    tags=["spark", "batch", "example"],
    params={
        "limit": Param(1_000_000, type="integer", minimum=10, maximum=10_000_000, description="The largest number."),
        "segments": Param(10, type="integer", minimum=1, maximum=1000, description="Rows of the table."),
    },
    default_args={
        "owner": "streaming",
        "pool": "streaming_pool",
        "queue": "streaming_queue",
        "retries": 3,
        "retry_delay": retry_delay(),
        "retry_exponential_backoff": 2.0,
    },
    on_success_callback=announce_success,
    on_failure_callback=[announce_failure, stop_after_failure(APPLICATION, None)],
) as dag:
    count_primes = RunApplicationOperator(
        task_id="count_primes",
        manifest=str(ROOT / "spark-apps" / APPLICATION / "application.yaml"),
        application=APPLICATION,
        arguments=[
            "--set",
            "parameters.limit={{ params.limit }}",
            "--set",
            "parameters.segments={{ params.segments }}",
        ],
        timeout=timedelta(minutes=20).total_seconds(),
    )

    @task(execution_timeout=timedelta(minutes=10))
    def show_result() -> dict:
        """Read the table back, show it, and compare it with a sieve."""
        from millrace.primes import show_primes

        return show_primes(TABLE, int(get_current_context()["params"]["limit"]))

    count_primes >> show_result()
