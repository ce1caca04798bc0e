"""
### First a batch, then a stream that uses it

The batch application `reference-data` prepares the table `products` with the prices of a day. Then the stream
`stream-join` adds name, category and price of the product to each order of the topic `orders`, and writes the result
to the table `enriched_orders` and the topic `enriched-orders`. When all orders are through, **every one of them** is
compared, in both, with the same join computed by DuckDB.

| parameter | meaning |
|---|---|
| `as_of` | the day whose prices hold; empty: the run's logical date, so that a backfill gets the prices of its day |
| `orders`, `seed` | how many orders are simulated; the same seed gives the same orders |
| `mode` | `restart`: topics, checkpoint and table of orders anew; `resume`: go on where the last run ended |

The stream is started with the very version of `products` that the batch has just made, and keeps it until it is
stopped. Orders of a product that the table doesn't hold go out all the same, with `matched` false and no price, and
are counted. `stop_pipeline` runs whatever happened before.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from millrace.callbacks import announce_failure, announce_success, stop_after_failure
from millrace.config import load_settings, retry_delay
from millrace.operators.batch import RunApplicationOperator
from millrace.operators.kafka import CheckKafkaOperator, CreateTopicsOperator
from millrace.operators.stream import StartApplicationOperator, StartJobOperator, StopPipelineOperator
from millrace.sensors.stream import CaughtUpSensor
from millrace.targets.base import JobSpec

ROOT = load_settings().root
BATCH = "reference-data"
APPLICATION = QUERY = "stream-join"
JOB = "orders"
INPUT_TOPIC, DEAD_LETTER_TOPIC, OUTPUT_TOPIC = "orders", "orders-dead-letter", "enriched-orders"
REFERENCE, TABLE = "products", "enriched_orders"
AS_OF = "{{ params.as_of or (dag_run.logical_date or dag_run.run_after) | ds }}"

with DAG(
    dag_id="batch_then_stream",
    description="A batch job prepares products; a stream joins orders with them; every order is checked.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    tags=["kafka", "spark", "batch", "streaming", "example"],
    params={
        "as_of": Param("", type="string", pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$", description="Day of the prices."),
        "orders": Param(10_000, type="integer", minimum=1, maximum=1_000_000, description="Number of orders."),
        "seed": Param(1, type="integer", minimum=0, description="Another seed, other orders."),
        "mode": Param("restart", enum=["restart", "resume"], description="Begin anew, or go on."),
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
    on_failure_callback=[announce_failure, stop_after_failure(APPLICATION, JOB), stop_after_failure(BATCH, None)],
) as dag:
    check_kafka = CheckKafkaOperator(task_id="check_kafka", execution_timeout=timedelta(minutes=2))

    create_topics = CreateTopicsOperator(
        task_id="create_topics",
        contract=str(ROOT / "contracts" / "topics.yaml"),
        mode="{{ params.mode }}",
        own_topics=[INPUT_TOPIC, DEAD_LETTER_TOPIC, OUTPUT_TOPIC],
        application=APPLICATION,
        job=JOB,
        tables=[TABLE],
        input_range={"orders": "{{ params.orders }}", "seed": "{{ params.seed }}"},
        execution_timeout=timedelta(minutes=10),
    )

    prepare_reference = RunApplicationOperator(
        task_id="prepare_reference",
        manifest=str(ROOT / "spark-apps" / BATCH / "application.yaml"),
        application=BATCH,
        arguments=["--set", f"parameters.as_of={AS_OF}"],
        timeout=timedelta(minutes=20).total_seconds(),
    )

    @task(execution_timeout=timedelta(minutes=5))
    def find_version() -> int:
        """Show the reference table, and return the version that the stream is to use."""
        from millrace.enrichment import reference_version

        return reference_version(REFERENCE)

    send_orders = StartJobOperator(
        task_id="send_orders",
        job=JobSpec(
            name=JOB,
            module="ingest",
            arguments=[
                "orders",
                f"--topic={INPUT_TOPIC}",
                "--count={{ params.orders }}",
                "--seed={{ params.seed }}",
            ],
            status_file_argument="--status-file",
            metrics_port_argument="--metrics-port",
        ),
        execution_timeout=timedelta(minutes=5),
    )

    start_streaming = StartApplicationOperator(
        task_id="start_streaming",
        manifest=str(ROOT / "spark-apps" / APPLICATION / "application.yaml"),
        application=APPLICATION,
        query=QUERY,
        arguments=["--set", "reference.version={{ ti.xcom_pull(task_ids='find_version') }}"],
        job=JOB,
    )

    wait_until_read = CaughtUpSensor(
        task_id="wait_until_read", application=APPLICATION, query=QUERY, job=JOB, topic=INPUT_TOPIC
    )

    @task(execution_timeout=timedelta(minutes=15))
    def verify_outputs() -> dict:
        """Compare every order in both sinks with DuckDB's join."""
        from millrace.enrichment import verify_orders

        return verify_orders(INPUT_TOPIC, REFERENCE, TABLE, OUTPUT_TOPIC)

    version, verified = find_version(), verify_outputs()
    stop_pipeline = StopPipelineOperator(
        task_id="stop_pipeline",
        application=APPLICATION,
        job=JOB,
        decisive_tasks=[earlier.task_id for earlier in dag.tasks],
        execution_timeout=timedelta(minutes=10),
    ).as_teardown(on_failure_fail_dagrun=True)

    check_kafka >> create_topics >> prepare_reference >> version >> start_streaming
    # Sent while the batch runs: the stream finds the orders there, or coming.
    create_topics >> send_orders >> start_streaming
    start_streaming >> wait_until_read >> verified >> stop_pipeline
