"""
### Failures on purpose

Shows what happens when tasks fail: retries, callbacks and alerts, with nothing broken. Each of `steps` mapped
tasks fails with the probability `failure_rate`, decided by a hash of the run's id, the step and the try: a run
with the same id fails the same way.

| parameter | meaning |
|---|---|
| `failure_rate` | 0: nothing fails; 1: every try fails, and so does the run |
| `steps` | how many tasks try |

A failed try that has retries left is recorded in the topic `system-metrics` (`task_retry`). A run that fails for
good is recorded there too (`dag_run_failure`), and people are told by e-mail, Slack and PagerDuty, as far as the
connections `alerts_email`, `alerts_slack` and `alerts_pagerduty` exist. In a cluster Prometheus sees the failures
as well and raises its own alerts.
"""

from datetime import timedelta

from airflow.sdk import DAG, Param, get_current_context, task

from millrace.callbacks import announce_failure, announce_retry, announce_success
from millrace.config import retry_delay

with DAG(
    dag_id="failure_drill",
    description="Fails on purpose at a given rate: shows retries, callbacks and alerts.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    dagrun_timeout=timedelta(hours=1),
    tags=["drill", "alerts"],
    params={
        "failure_rate": Param(0.5, type="number", minimum=0, maximum=1, description="Share of the tries that fail."),
        "steps": Param(4, type="integer", minimum=1, maximum=50, description="Number of tasks that try."),
    },
    default_args={
        "owner": "platform",
        "retries": 2,
        "retry_delay": retry_delay(),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=5),
        "on_retry_callback": announce_retry,
    },
    on_success_callback=announce_success,
    on_failure_callback=announce_failure,
) as dag:

    @task
    def plan() -> list[int]:
        """Number the steps."""
        return list(range(get_current_context()["params"]["steps"]))

    @task(map_index_template="{{ task.op_kwargs['number'] }}")
    def step(number: int) -> dict:
        """Try, and perhaps fail."""
        from millrace.drill import run_step

        return run_step(number, get_current_context())

    @task
    def count(results: list[dict]) -> dict:
        """Say how many tries it took."""
        tries = [result["tries"] for result in results]
        return {"steps": len(tries), "tries": sum(tries), "most_tries": max(tries)}

    count(step.expand(number=plan()))
