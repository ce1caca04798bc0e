"""
### Look into a stream's checkpoint, take it back, or replay its dead letters

| parameter | meaning |
|---|---|
| `application`, `query` | the app (a folder of spark-apps/), and which of its queries; empty: the only one |
| `action` | `inspect`, `check`, `rewind`, or `replay` (dead letters) |
| `to_batch`, `to_offsets` | the goal of a rewind: a batch, or (without state) `topic:partition:offset ...` |
| `dry_run` | only show what a rewind or a replay would do; **on by default** |
| `keep_table` | leave the Delta table as it is when the checkpoint goes back |
| `stop_running` | stop the app first, whoever started it; without it a running app is refused |
| `start_again` | start the app when the rewound checkpoint has been found sound; it then runs on, for this run |
| `settings` | `key.path=value ...` that the app is run with |
| `dead_letter_topic`, `reasons` | what to replay: the topic, and parts of the reason, one a line |

A rewind makes a backup first and runs under the app's own name, so nobody can start the app until it is done.
What each sink then holds: docs/recovery.md.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, get_current_context, task

from millrace.callbacks import announce_failure, announce_success
from millrace.config import load_settings, retry_delay
from millrace.operators.jobs import RunJobOperator
from millrace.operators.kafka import CheckKafkaOperator
from millrace.operators.recovery import RecoveryOperator, StartAgainOperator
from millrace.targets.base import JobSpec

ROOT = load_settings().root
APPLICATION = "{{ params.application }}"

with DAG(
    dag_id="stream_recovery",
    description="Inspect, check or rewind a stream's checkpoint; replay dead letters.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=4),
    tags=["kafka", "spark", "streaming", "recovery"],
    params={
        "application": Param("event-windows", type="string", minLength=1, description="A folder of spark-apps/."),
        "query": Param("", type="string", description="One of its queries; empty: the only one."),
        "action": Param("inspect", enum=["inspect", "check", "rewind", "replay"], description="What to do."),
        "to_batch": Param(None, type=["null", "integer"], minimum=0, description="Rewind: the newest batch after it."),
        "to_offsets": Param("", type="string", description="Rewind: topic:partition:offset, separated by spaces."),
        "dry_run": Param(True, type="boolean", description="Only show what would be done."),
        "keep_table": Param(False, type="boolean", description="Leave the Delta table as it is."),
        "stop_running": Param(False, type="boolean", description="Stop the app first, whoever started it."),
        "start_again": Param(False, type="boolean", description="Start the app after a rewind."),
        "settings": Param("", type="string", description="key.path=value settings, separated by spaces."),
        "dead_letter_topic": Param("events-dead-letter", type="string", description="Replay: the topic."),
        "reasons": Param("", type="string", description="Replay: parts of the reason, one a line; empty: all."),
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
    # The app is left alone: this run may have found it running.
    on_failure_callback=announce_failure,
) as dag:

    @task(execution_timeout=timedelta(minutes=2), multiple_outputs=True)
    def read_request() -> dict:
        """Refuse what makes no sense before anything is done."""
        from millrace.operators.base import one_sentence
        from millrace.recovery_steps import log, prepare_action

        with one_sentence(log):
            return prepare_action(get_current_context()["params"])

    check_kafka = CheckKafkaOperator(task_id="check_kafka", execution_timeout=timedelta(minutes=2))

    @task(execution_timeout=timedelta(minutes=10))
    def stop_running() -> str:
        """Stop the app if that is asked for."""
        from millrace.operators.base import one_sentence
        from millrace.recovery_steps import log, stop_first

        with one_sentence(log):
            return stop_first(get_current_context()["params"])

    @task.branch(execution_timeout=timedelta(minutes=2))
    def choose_action() -> str:
        """Go the way of the action."""
        from millrace.recovery_steps import CHOICES

        return CHOICES[get_current_context()["params"]["action"]]

    request = read_request()
    look = {"application": APPLICATION, "arguments": request["look"], "overrides": request["settings"]}
    inspect_checkpoint = RecoveryOperator(task_id="inspect_checkpoint", action="inspect", **look)
    check_checkpoint = RecoveryOperator(task_id="check_checkpoint", action="check", **look)
    rewind_checkpoint = RecoveryOperator(
        task_id="rewind_checkpoint", action="rewind", **look | {"arguments": request["rewind"]}
    )
    verify_checkpoint = RecoveryOperator(task_id="verify_checkpoint", action="check", **look)
    replay_dead_letters = RunJobOperator(
        task_id="replay_dead_letters",
        job=JobSpec(
            name="replay-dead-letters",
            module="ingest",
            arguments=["replay-dead-letters"],
            status_file_argument="--status-file",
            metrics_port_argument="--metrics-port",
        ),
        more_arguments=request["replay"],
    )

    @task.short_circuit(execution_timeout=timedelta(minutes=2))
    def starts_again() -> bool:
        """Go on only if the app is to be started, and was rewound."""
        params = get_current_context()["params"]
        return params["start_again"] and not params["dry_run"]

    start_again = StartAgainOperator(
        task_id="start_again",
        manifest=f"{ROOT}/spark-apps/{APPLICATION}/application.yaml",
        application=APPLICATION,
        query="{{ params.query or params.application }}",
        more_arguments=request["start"],
    )

    chosen = choose_action()
    request >> check_kafka >> stop_running() >> chosen
    chosen >> [inspect_checkpoint, check_checkpoint, rewind_checkpoint, replay_dead_letters]
    rewind_checkpoint >> verify_checkpoint >> starts_again() >> start_again
