"""The Python tasks of `streaming_pipeline`: verify, and report.

Imports that take long are inside of the functions.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from millrace.errors import MillraceError

VERIFICATION_KEY = "verification"

log = logging.getLogger(__name__)


def verify_windows(
    *,
    from_date: str,
    days: int,
    length: timedelta,
    slide: timedelta,
    table: str,
    topic: str,
    asset: Any,
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """Compare all windows with an independent computation; keep the result for the report whatever it is.

    Returns a short result; tells those who wait for `asset` which range it is. Raises AirflowFailException, naming the
    first windows, if any differs: trying again would give the same.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import kafka, storage, verification
    from millrace.operators.base import one_sentence
    from millrace.report import verification_facts

    with one_sentence(log):
        windows = verification.Windows(first_day=date.fromisoformat(from_date), days=days, length=length, slide=slide)
        found = verification.verify(windows, storage.table_url(table), kafka.connection_config(), topic)
    context["ti"].xcom_push(key=VERIFICATION_KEY, value=verification_facts(found))
    if not found.passed:
        log.error("%s", found.failure())
        raise AirflowFailException(found.failure())
    for comparison in found.comparisons:
        log.info(
            "%s: %d windows, %d records, all as expected",
            comparison.sink,
            comparison.rows,
            comparison.records,
        )
    context["outlet_events"][asset].extra = {"range": f"{from_date}+{days}"}
    return {"windows": found.expected_windows, "events": sum(found.expected_events.values())}


def write_report(
    *,
    application: str,
    query: str,
    job: str,
    dead_letter_topic: str,
    verify_task: str,
    context: Mapping[str, Any],
) -> dict[str, str]:
    """Write the report and the summary of the run; return where they are."""
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import history, kafka, report, storage
    from millrace.operators.base import one_sentence
    from millrace.progress import merge_history
    from millrace.targets import get_target

    run_id, dag_id, instance = context["run_id"], context["dag"].dag_id, context["ti"]
    verified = instance.xcom_pull(task_ids=verify_task, key=VERIFICATION_KEY)
    if verified is None:
        raise AirflowFailException(f"{verify_task} compared nothing, so there is nothing to report: see its log.")
    with one_sentence(log):
        target = get_target()
        status, job_status = target.application_status(application), target.job_status(job)
        batches = history.load(run_id)
        try:
            batches = merge_history(batches, target.progress(application))
        except MillraceError as error:  # The driver may just be restarting; what was recorded is still there.
            log.warning("The report misses the newest batches: %s", error)
        started = context["dag_run"].start_date
        facts = report.RunFacts(
            dag_id=dag_id,
            run_id=run_id,
            params=dict(context["params"]),
            job=job_status.result or {},
            verification=verified,
            batches=batches,
            query=query,
            tasks=finished_tasks(instance, dag_id, run_id, list(context["dag"].task_ids)),
            driver_tries=status.tries,
            dead_letters=kafka.count_records(kafka.connection_config(), dead_letter_topic),
            run_seconds=round((datetime.now(UTC) - started).total_seconds(), 1) if started else None,
            logs={name: log_path for name, log_path in ((application, status.log), (job, job_status.log)) if log_path},
        )
        storage.write_json(batches, "reports", storage.run_folder(run_id), history.FILE)
        places = report.write(facts)
    log.info("Report: %s", places["report"])
    return places


def finished_tasks(instance: Any, dag_id: str, run_id: str, order: list[str]) -> list[dict[str, Any]]:
    """Return task_id, state and duration (seconds) of the run's finished tasks, in the DAG's order."""
    found = instance.get_task_breadcrumbs(dag_id=dag_id, run_id=run_id)
    tasks = [{key: task.get(key) for key in ("task_id", "state", "duration")} for task in found]
    return sorted(tasks, key=lambda task: order.index(task["task_id"]) if task["task_id"] in order else len(order))
