"""``run``: bring everything up, run the main job, show its result, take everything down."""

import time
from datetime import datetime
from typing import Any

import httpx

from embedded.console import Display, summary_table
from embedded.errors import UserError
from embedded.instance import claim
from embedded.interrupt import Guard
from embedded.pipeline import DAG_ID, Run, View, failed_task
from embedded.settings import Settings
from embedded.supervisor import Supervisor
from main_job.options import RunOptions

POLL_SECONDS = 0.5
SILENCE_SECONDS = 90.0
"""How long Airflow's API may not answer before the run is given up."""
LOG_LINES = 15


def run(settings: Settings, options: RunOptions, guard: Guard, began: float) -> int:
    """Run the main job; return 0 only if every task succeeded and the verification held.

    Args:
        settings: of the target.
        options: what to replay.
        guard: the signal handlers; disarmed before the clean-up.
        began: `time.monotonic()` of the command's start.

    Raises:
        UserError: something the user can put right is in the way.
        Interrupted: a signal came; everything has been ended.
    """
    with claim(settings, "run") as instance, Display() as display:
        supervisor = Supervisor(settings, instance, display.say)
        try:
            with guard.until_clean_up():
                client = supervisor.start((DAG_ID,))
                times = {"bring-up": time.monotonic() - began}
                client.unpause(DAG_ID)
                run_id = f"run-{datetime.now():%Y-%m-%d-%H-%M-%S}"
                client.trigger(DAG_ID, run_id, options.parameters)
                display.say(f"Started {DAG_ID}: {run_id}.")
                current = Run(settings, client, run_id)
                view = _follow(current, supervisor, display, guard, times, began)
                summary = current.summary()
                if view.state != "success":
                    _explain(current, view, display)
        finally:
            display.close()
            if guard.interrupted:
                display.say("Stopping everything.")
            supervisor.stop()
        times["whole run, with shut-down"] = time.monotonic() - began
        return _conclude(view, summary, display, times)


def _follow(
    current: Run, supervisor: Supervisor, display: Display, guard: Guard, times: dict[str, float], began: float
) -> View:
    """Show the run until it has ended; note when its first batch was processed."""
    answered = time.monotonic()
    while True:
        guard.check()
        supervisor.watch()
        try:
            view = current.look()
        except httpx.HTTPError as error:
            if time.monotonic() - answered > SILENCE_SECONDS:
                raise UserError(
                    f"Airflow has not answered for {SILENCE_SECONDS:.0f} s ({error}): see {supervisor.settings.logs}."
                ) from None
        else:
            answered = time.monotonic()
            if view.stream.processed and "first batch processed" not in times:
                times["first batch processed"] = answered - began
            display.update(view)
            if view.state in ("success", "failed"):
                return view
        time.sleep(POLL_SECONDS)


def _explain(current: Run, view: View, display: Display) -> None:
    """Say which task failed, with the last lines of its log and where the rest is."""
    display.close()
    task = failed_task(view)
    if task is None:
        display.say(f"{DAG_ID} ended as {view.state}: see {current.settings.logs}.")
        return
    folder = current.settings.logs / "tasks" / f"dag_id={DAG_ID}" / f"run_id={view.run_id}" / f"task_id={task.name}"
    display.say(f"{task.name} failed. The end of its log ({folder}/attempt={task.attempt}.log):")
    try:
        lines = current.client.task_log(DAG_ID, view.run_id, task.name, task.attempt)
    except httpx.HTTPError:
        return
    for line in lines[-LOG_LINES:]:
        display.say(f"  {line}")
    display.say(f"All logs are in {current.settings.logs}, those of Spark and the replay in {current.settings.apps}.")


def _conclude(view: View, summary: dict[str, Any] | None, display: Display, times: dict[str, float]) -> int:
    if summary is not None:
        display.console.print(summary_table(summary, times))
        display.say(f"Report: {summary.get('report')}")
    # Where the storage is elsewhere, the run's state stands for it: verify_outputs is one of its tasks.
    verified = summary is None or bool(summary.get("verification_passed"))
    if view.state == "success" and verified:
        display.say("Success: every task succeeded and every window is exactly right.")
        return 0
    display.say(f"Failed: {view.state}.")
    return 1
