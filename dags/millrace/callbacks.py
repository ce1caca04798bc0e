"""What happens when a run ends or is late: a log line, a record in the topic `system-metrics`, and word to people.

People are told of failures and missed deadlines (`notifications.py`), not of successes. Callbacks run outside of
the tasks (in the DAG processor, the deadline's in the triggerer), so they are short, and a broker that is away only
costs the record.
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from millrace.errors import MillraceError
from millrace.notifications import Notice, notify

METRICS_TOPIC = "system-metrics"
SEND_TIMEOUT = 5.0
STOP_TIMEOUT = 20.0
"""Seconds for a stream to end after its run was timed out; the DAG processor allows a callback less than a
minute.
"""

log = logging.getLogger(__name__)


def announce_success(context: Mapping[str, Any]) -> None:
    """Say that a run has succeeded."""
    announce("success", context)


def announce_failure(context: Mapping[str, Any]) -> None:
    """Say that a run has failed, and why."""
    announce("failure", context)


async def announce_deadline(message: str, context: Mapping[str, Any] | None = None) -> None:
    """Say that a run is later than its deadline. The run goes on."""
    await asyncio.to_thread(announce, "deadline", {"reason": message, **(context or {})})


def announce_retry(context: Mapping[str, Any]) -> None:
    """Say that a task has failed and will be tried again. A callback of tasks: it runs in the task's own process."""
    instance, error = context.get("ti"), context.get("exception")
    reason = " ".join(str(error).split()) if error else None
    record = describe("failure", {**context, "reason": reason})
    record |= {"event": "task_retry", "try_number": _of(instance, "try_number")}
    log.warning("retry: try %s of %s failed: %s", record["try_number"], record["last_task"], reason)
    _send(record)


def stop_after_failure(application: str, job: str | None) -> Callable[[Mapping[str, Any]], None]:
    """Return a failure callback that stops what a run may have left running.

    After most failures the pipeline's stop task has done that already, and this finds nothing. When the run
    exceeds its time limit Airflow skips all tasks, the stop task too, so only this is left.
    """

    def stop(context: Mapping[str, Any]) -> None:
        from millrace.operators.stream import stop_all

        record = describe("failure", context)
        try:
            done = stop_all(application, job, f"{record['dag_id']}/{record['run_id']}", STOP_TIMEOUT)
        except MillraceError as error:
            log.error("After the failure of %s: %s", record["run_id"], error)
        else:
            log.info("After the failure of %s: %s", record["run_id"], {name: end.said for name, end in done.items()})

    return stop


def announce(event: str, context: Mapping[str, Any]) -> None:
    """Log what happened to a run, send it to `system-metrics`, and tell people unless it is a success.

    Never raises for a broker or a channel that is away.
    """
    record = describe(event, context)
    level = logging.INFO if event == "success" else logging.ERROR
    log.log(level, "%s: run %s of %s: %s", event, record["run_id"], record["dag_id"], record["reason"] or "done")
    _send(record)
    if event != "success":
        notify(notice_of(event, record))


def notice_of(event: str, record: Mapping[str, Any]) -> Notice:
    """Return what people are told of a record of `describe`."""
    names = {"reason": "Reason", "last_task": "Last task", "started_at": "Started", "ended_at": "Ended"}
    late = event == "deadline"
    return Notice(
        key=f"{record['dag_id']}/{record['run_id']}/{event}",
        subject=f"{record['dag_id']} {'is late' if late else 'has failed'}: run {record['run_id']}",
        facts={word: str(record[name]) for name, word in names.items() if record[name]},
        severity="warning" if late else "error",
        link=run_link(str(record["dag_id"]), str(record["run_id"])),
    )


def run_link(dag_id: str, run_id: str) -> str | None:
    """Return the address of a run in Airflow's UI, if Airflow knows its own."""
    from airflow.sdk.configuration import conf

    base = conf.get("api", "base_url", fallback="").rstrip("/")
    return f"{base}/dags/{quote(dag_id)}/runs/{quote(run_id)}" if base else None


def _send(record: Mapping[str, Any]) -> None:
    try:
        from millrace import kafka, records

        config = kafka.connection_config()
        records.send(config, METRICS_TOPIC, record["dag_id"], json.dumps(record).encode(), timeout=SEND_TIMEOUT)
    except MillraceError as error:
        log.warning("The record of this event is not in %s: %s", METRICS_TOPIC, error)


def describe(event: str, context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record for `system-metrics`; the context may hold objects or dictionaries."""
    run = context.get("dag_run")
    instance = context.get("ti")
    started, ended = _of(run, "start_date"), _of(run, "end_date")
    return {
        "event": f"dag_run_{event}",
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "dag_id": _of(run, "dag_id") or _of(context.get("dag"), "dag_id"),
        "run_id": _of(run, "run_id") or context.get("run_id"),
        "reason": context.get("reason"),
        "last_task": _of(instance, "task_id"),
        "started_at": str(started) if started else None,
        "ended_at": str(ended) if ended else None,
        "instance": os.environ.get("MILLRACE_INSTANCE"),
    }


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
