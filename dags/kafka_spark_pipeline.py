"""
### Kafka, Spark, Kafka: who is of age?

Sends people to the topic `input-topic`, lets the Spark application `adults` keep those of `minimum_age` years and more
in `output-topic`, waits until it has read everybody, reads the output back, shows it in the log of `show_output`, and
compares **every record** with the input. Alice (25), Charlie (30) and Eve (22) are kept; Bob (17) and Diana (15) are
not.

| parameter | meaning |
|---|---|
| `people` | further people, as `Frank=44,Grace=12` |
| `minimum_age` | who is younger is dropped, and counted |

Topics and checkpoint are made anew each time. `stop_pipeline` runs whatever happened before.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, get_current_context, task

from millrace.callbacks import announce_failure, announce_success, stop_after_failure
from millrace.config import load_settings, retry_delay
from millrace.operators.kafka import CheckKafkaOperator, CreateTopicsOperator
from millrace.operators.stream import StartApplicationOperator, StartJobOperator, StopPipelineOperator
from millrace.sensors.stream import CaughtUpSensor
from millrace.targets.base import JobSpec

ROOT = load_settings().root
APPLICATION = QUERY = "adults"
JOB = "people"
INPUT_TOPIC, DEAD_LETTER_TOPIC, OUTPUT_TOPIC = "input-topic", "input-topic-dead-letter", "output-topic"

with DAG(
    dag_id="kafka_spark_pipeline",
    description="People through Kafka and Spark: those of age are kept, shown and checked.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    tags=["kafka", "spark", "streaming", "example"],
    params={
        "people": Param("", type="string", maxLength=10_000, description="Further people, such as Frank=44,Grace=12."),
        "minimum_age": Param(18, type="integer", minimum=0, maximum=150, description="Who is younger is dropped."),
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
    on_failure_callback=[announce_failure, stop_after_failure(APPLICATION, JOB)],
) as dag:
    check_kafka = CheckKafkaOperator(task_id="check_kafka", execution_timeout=timedelta(minutes=2))

    create_topics = CreateTopicsOperator(
        task_id="create_topics",
        contract=str(ROOT / "contracts" / "topics.yaml"),
        mode="restart",
        own_topics=[INPUT_TOPIC, DEAD_LETTER_TOPIC, OUTPUT_TOPIC],
        application=APPLICATION,
        job=JOB,
        tables=[],
        input_range={},
        execution_timeout=timedelta(minutes=10),
    )

    produce_people = StartJobOperator(
        task_id="produce_people",
        job=JobSpec(
            name=JOB,
            module="ingest",
            arguments=["people", f"--topic={INPUT_TOPIC}", "--people={{ params.people }}"],
            status_file_argument="--status-file",
        ),
        execution_timeout=timedelta(minutes=5),
    )

    start_streaming = StartApplicationOperator(
        task_id="start_streaming",
        manifest=str(ROOT / "spark-apps" / APPLICATION / "application.yaml"),
        application=APPLICATION,
        query=QUERY,
        arguments=["--set", "parameters.minimum_age={{ params.minimum_age }}"],
        job=JOB,
    )

    wait_until_read = CaughtUpSensor(
        task_id="wait_until_read", application=APPLICATION, query=QUERY, job=JOB, topic=INPUT_TOPIC
    )

    @task(execution_timeout=timedelta(minutes=10))
    def show_output() -> dict:
        """Read the output back, show it, and compare it with the input."""
        from millrace.adults import show_and_verify

        return show_and_verify(INPUT_TOPIC, OUTPUT_TOPIC, int(get_current_context()["params"]["minimum_age"]))

    shown = show_output()
    stop_pipeline = StopPipelineOperator(
        task_id="stop_pipeline",
        application=APPLICATION,
        job=JOB,
        decisive_tasks=[earlier.task_id for earlier in dag.tasks],
        execution_timeout=timedelta(minutes=10),
    ).as_teardown(on_failure_fail_dagrun=True)

    check_kafka >> create_topics >> produce_people >> start_streaming >> wait_until_read >> shown >> stop_pipeline
