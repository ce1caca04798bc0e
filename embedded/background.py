"""``up`` and ``down``: the same parts, kept running by a supervisor in the background."""

import subprocess
import sys
import time

import psutil

from embedded.errors import UserError
from embedded.instance import Record, claim, end_leftovers, is_claimed, read_record
from embedded.interrupt import Guard, Interrupted
from embedded.processes import alive, end_all, rotate
from embedded.settings import Settings, make_home
from embedded.supervisor import Supervisor

WATCH_SECONDS = 0.5
STOP_SECONDS = 90.0


def supervise(settings: Settings, guard: Guard) -> int:
    """What runs in the background: start, watch until a signal comes, stop. Says what it does on standard output."""

    def say(message: str) -> None:
        print(message, flush=True)

    with claim(settings, "up") as instance:
        supervisor = Supervisor(settings, instance, say)
        try:
            try:
                with guard.until_clean_up():
                    supervisor.start(parts=("scheduler", "dag_processor", "triggerer"))
                    while True:
                        guard.check()
                        supervisor.watch()
                        time.sleep(WATCH_SECONDS)
            except Interrupted:
                say("Stopping.")
        finally:
            supervisor.stop()
    return 0


def up(settings: Settings, guard: Guard) -> int:
    """Start the supervisor in the background and return when all parts serve.

    Raises:
        UserError: it did not come up, for the reason that the supervisor gave.
    """
    make_home(settings)
    record = read_record(settings)
    if is_claimed(settings) and record and record.command == "up" and record.state == "ready":
        print("It is up already.")
        describe_access(settings)
        return 0
    log = settings.logs / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    rotate(log)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "embedded", "supervise"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    shown = 0
    try:
        while process.poll() is None:
            shown = _relay(settings, shown)
            record = read_record(settings)
            if record and record.pid == process.pid and record.state == "ready":
                _relay(settings, shown)
                describe_access(settings)
                return 0
            time.sleep(0.1)
    except BaseException:
        # Also Ctrl-C: what this command began must not go on without it.
        guard.disarm()
        print("Stopping what has been started.")
        process.terminate()
        process.wait()
        raise
    _relay(settings, shown)
    return process.returncode or 1


def down(settings: Settings) -> int:
    """Stop the running instance, or end what a killed one left.

    Raises:
        UserError: it does not end.
    """
    if not settings.home.exists():
        print("Nothing runs.")
        return 0
    record = read_record(settings)
    if is_claimed(settings) and record and alive(record.pid, record.created):
        print(f"Stopping what `make {record.command}` started (process {record.pid}).")
        _end_supervisor(settings, record)
    elif is_claimed(settings):
        raise UserError(f"Another command is working in {settings.home}: wait for it to end.")
    elif record is None:
        print("Nothing runs.")
        return 0
    # Whatever is left, also if the supervisor had to be killed: nobody holds the home now.
    count = end_leftovers(settings)
    print(f"Everything is stopped.{f' Ended {count} processes that were left.' if count else ''}")
    return 0


def _end_supervisor(settings: Settings, record: Record) -> None:
    psutil.Process(record.pid).terminate()
    deadline = time.monotonic() + STOP_SECONDS
    while is_claimed(settings):
        if time.monotonic() > deadline:
            psutil.Process(record.pid).kill()
            end_all(record.id)
            deadline = float("inf")
        time.sleep(0.1)


def _relay(settings: Settings, shown: int) -> int:
    """Print what the supervisor has written since; return how much of its log was shown."""
    text = (settings.logs / "supervisor.log").read_bytes()
    # Only whole lines.
    end = text.rfind(b"\n") + 1
    for line in text[shown:end].decode(errors="replace").splitlines():
        print(line, file=sys.stderr if line.startswith("millrace: ") else sys.stdout, flush=True)
    return max(shown, end)


def describe_access(settings: Settings) -> None:
    """Say where things are and how to log in."""
    print(f"Airflow:  {settings.airflow_url}  user admin, password in {settings.airflow_home / 'passwords.json'}")
    print(f"Kafka:    {settings.bootstrap_servers}")
    print(f"Logs:     {settings.logs}  (make logs)")
    print("`make status` says what runs, `make down` stops it.")
