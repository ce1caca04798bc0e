"""
### Air quality, from sensors to verified alerts

Simulates hours of sensor readings of six stations into the topic `air-quality` (seeded: the same parameters give the
same readings), starts the Spark application `air-quality` (means by location in 5 min windows sliding by 1 min, alerts
above a limit of PM2.5), waits until every window is closed, checks **every window and every alert** against DuckDB on
the records of the topic, shows the alerts (log, and `alerts.html` in the run's report folder), and stops the stream
gracefully.

| parameter | meaning |
|---|---|
| `hours` | hours of event time; each station reports every 10 s; they are sent as fast as possible |
| `seed` | which readings |
| `pm25_limit` | micrograms per cubic metre above which the mean of a window is an alert |
| `mode` | `restart`: topics, checkpoint and table anew; `resume`: go on where the last run ended |

`stop_pipeline` runs whatever happened before, and turns red if another task had failed; that task's log has the reason.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, get_current_context, task
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from millrace.air_quality_steps import show_air_quality_alerts, verify_air_quality
from millrace.callbacks import announce_deadline, announce_failure, announce_success, stop_after_failure
from millrace.config import load_settings, retry_delay
from millrace.operators.kafka import CheckKafkaOperator, CreateTopicsOperator
from millrace.operators.stream import StartApplicationOperator, StartJobOperator, StopPipelineOperator
from millrace.sensors.stream import CaughtUpSensor
from millrace.targets.base import JobSpec

ROOT = load_settings().root
APPLICATION = QUERY = "air-quality"
JOB = "simulate-air-quality"
INPUT_TOPIC, DEAD_LETTER_TOPIC, ALERTS_TOPIC = "air-quality", "air-quality-dead-letter", "air-quality-alerts"
TABLE = "air_quality"
WINDOW, SLIDE = timedelta(minutes=5), timedelta(minutes=1)
READINGS_PER_HOUR = 2160
"""Six stations, each every 10 s."""

with DAG(
    dag_id="air_quality",
    description="Sensor readings through Kafka and Spark into means and alerts, every one verified.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=1),
    tags=["kafka", "spark", "streaming", "air-quality"],
    params={
        "hours": Param(6, type="integer", minimum=1, maximum=168, description="Hours of readings."),
        "seed": Param(1, type="integer", minimum=0, description="Which readings."),
        "pm25_limit": Param(35.4, type="number", minimum=0, maximum=100_000, description="Micrograms per cubic metre."),
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
        own_topics=[INPUT_TOPIC, DEAD_LETTER_TOPIC, ALERTS_TOPIC],
        application=APPLICATION,
        job=JOB,
        tables=[TABLE],
        input_range={
            "hours": "{{ params.hours }}",
            "seed": "{{ params.seed }}",
            "pm25_limit": "{{ params.pm25_limit }}",
        },
        execution_timeout=timedelta(minutes=10),
    )

    # A try that was cut short may have sent some readings: the app drops what comes again.
    start_generator = StartJobOperator(
        task_id="start_generator",
        job=JobSpec(
            name=JOB,
            module="ingest",
            arguments=[
                "simulate-air-quality",
                f"--topic={INPUT_TOPIC}",
                f"--rate={READINGS_PER_HOUR / 3600}",
                f"--count={{{{ params.hours * {READINGS_PER_HOUR} }}}}",
                "--seed={{ params.seed }}",
                "--fast",
                "--close-after-minutes=20",
            ],
            status_file_argument="--status-file",
            metrics_port_argument="--metrics-port",
        ),
        execution_timeout=timedelta(minutes=5),
    )

    start_streaming = StartApplicationOperator(
        task_id="start_streaming",
        manifest=str(ROOT / "spark-apps" / APPLICATION / "application.yaml"),
        arguments=["--set", "parameters.pm25_limit={{ params.pm25_limit }}"],
        application=APPLICATION,
        query=QUERY,
        job=JOB,
        topic=INPUT_TOPIC,
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

    @task(execution_timeout=timedelta(minutes=15))
    def verify_outputs() -> dict:
        """Compare every window and every alert with DuckDB's."""
        context = get_current_context()
        return verify_air_quality(
            topic=INPUT_TOPIC,
            alerts_topic=ALERTS_TOPIC,
            table=TABLE,
            pm25_limit=float(context["params"]["pm25_limit"]),
            length=WINDOW,
            slide=SLIDE,
            expected_readings=int(context["params"]["hours"]) * READINGS_PER_HOUR,
            context=context,
        )

    # Also if something differs: then the page says what.
    @task(execution_timeout=timedelta(minutes=10), trigger_rule="all_done_min_one_success")
    def show_alerts() -> dict:
        """Log the alerts and write alerts.html."""
        return show_air_quality_alerts(
            alerts_topic=ALERTS_TOPIC,
            dead_letter_topic=DEAD_LETTER_TOPIC,
            verify_task="verify_outputs",
            context=get_current_context(),
        )

    verified, shown = verify_outputs(), show_alerts()
    stop_pipeline = StopPipelineOperator(
        task_id="stop_pipeline",
        application=APPLICATION,
        job=JOB,
        decisive_tasks=[earlier.task_id for earlier in dag.tasks],
        execution_timeout=timedelta(minutes=10),
    ).as_teardown(on_failure_fail_dagrun=True)

    check_kafka >> create_topics >> start_generator >> start_streaming >> monitor_pipeline >> verified
    # Two ways lead to the page, so that a failed comparison doesn't hide it, but a failed start does.
    [monitor_pipeline, verified] >> shown >> stop_pipeline
