"""Supervisor of one application or job of the embedded target: `python -m millrace.targets.runner DIRECTORY`.

It reads DIRECTORY/spec.json, starts the driver, restarts it as the restart policy says, and keeps status.json
current. It leads a session of its own, so it outlives the task that started it. The lock is taken before the
first driver starts and every driver inherits it: while any of them lives, nobody else can start a second
driver, even if this supervisor was killed. Nothing here imports Airflow, so that it starts fast and stays
small.
"""

import argparse
import os
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millrace.targets.state import AppDirectory, acquire, identify, read_json, write_json

TERMINATION_GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL when the supervisor itself is told to end."""


@dataclass(frozen=True)
class Spec:
    """What to run. Written to spec.json by the embedded target."""

    kind: str
    """`application` or `job`."""
    name: str
    owner: str
    command: list[str]
    environment: dict[str, str]
    policy: str = "Never"
    retries: int = 0
    interval: float = 5.0
    first_try: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    """Which task asked for it: for a person who reads spec.json."""


class Signals:
    """Turns signals into something that a wait can be woken by."""

    def __init__(self) -> None:
        self.terminated = False
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._terminate)

    def _terminate(self, *_: object) -> None:
        self.terminated = True

    def wait(self, seconds: float) -> None:
        """Return when a signal arrives, at the latest after `seconds`."""
        if select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 4096)


class Supervisor:
    """Runs the drivers of one spec, one after the other."""

    def __init__(self, directory: AppDirectory, spec: Spec, lock: int) -> None:
        self.directory = directory
        self.spec = spec
        self.lock = lock
        self.signals = Signals()
        self.status: dict[str, Any] = {
            "kind": spec.kind,
            "name": spec.name,
            "owner": spec.owner,
            "state": "SUBMITTED",
            "tries": spec.first_try - 1,
            "message": "",
            "started_at": now(),
            "runner": identify(os.getpid()),
        }

    @property
    def stop_wanted(self) -> bool:
        """True if somebody asked for the end, of the driver (stop file) or of this process (signal)."""
        return self.signals.terminated or self.directory.stop.exists()

    def run(self) -> int:
        """Run drivers until one ends for good; return 0 if that was a success."""
        failures = 0
        while True:
            code = self._run_driver()
            if self.stop_wanted:
                return self._finish(code == 0, self._stop_message(code))
            failures += code != 0
            if not self._restarts(code, failures):
                return self._finish(code == 0, "" if code == 0 else f"the driver ended with {describe(code)}")
            interval = self.spec.interval
            message = f"try {self.status['tries']} ended with {describe(code)}; the next starts in {interval:g} s"
            self._report("PENDING_RERUN", message)
            self._sleep(interval)
            if self.stop_wanted:
                return self._finish(True, "stopped between two tries, as asked")

    def _restarts(self, code: int, failures: int) -> bool:
        if self.spec.policy == "Always":
            return True
        return self.spec.policy == "OnFailure" and code != 0 and failures <= self.spec.retries

    def _run_driver(self) -> int:
        attempt = self.status["tries"] + 1
        port = free_port()
        environment = {
            **self.spec.environment,
            **self._temporary(),
            "MILLRACE_METRICS_HOST": "127.0.0.1",
            "MILLRACE_METRICS_PORT": str(port),
        }
        with self.directory.log(attempt).open("ab") as log:
            log.write(f"--- try {attempt} of {self.spec.name} at {now()} for {self.spec.owner}\n".encode())
            log.flush()
            try:
                driver = subprocess.Popen(
                    self.spec.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    cwd=self.directory.path,
                    pass_fds=(self.lock,),
                    start_new_session=True,
                )
            except OSError as error:
                log.write(f"cannot start {self.spec.command[0]}: {error.strerror}\n".encode())
                self.status["tries"] = attempt
                return 127
        self.status |= {
            "tries": attempt,
            "driver": identify(driver.pid),
            "metrics_url": f"http://127.0.0.1:{port}" if self.spec.kind == "application" else None,
            "log": str(self.directory.log(attempt)),
        }
        self._report("RUNNING", "" if attempt == self.spec.first_try else f"try {attempt}")
        code = self._wait_for(driver)
        # A driver is more than its first process (spark-submit: a JVM and Python): none may outlive it.
        kill_group(driver.pid, signal.SIGKILL)
        shutil.rmtree(self.directory.temporary, ignore_errors=True)
        self.status |= {"driver": None, "metrics_url": None, "exit_code": code}
        return code

    def _temporary(self) -> dict[str, str]:
        """Make an empty folder for temporary files; return what tells Python and Java of it.

        One that is killed can't remove its own, and Spark's are large: state, shuffled and cached data.
        """
        folder = self.directory.temporary
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        # Before the user's options, so that a folder of theirs is taken.
        options = f"{shlex.quote(f'-Djava.io.tmpdir={folder}')} {self.spec.environment.get('SPARK_SUBMIT_OPTS', '')}"
        return {"TMPDIR": str(folder), "SPARK_SUBMIT_OPTS": options.strip()}

    def _wait_for(self, driver: subprocess.Popen[bytes]) -> int:
        killed_at: float | None = None
        while (code := driver.poll()) is None:
            if self.signals.terminated:
                if killed_at is None:
                    kill_group(driver.pid, signal.SIGTERM)
                    killed_at = time.monotonic() + TERMINATION_GRACE
                elif time.monotonic() >= killed_at:
                    kill_group(driver.pid, signal.SIGKILL)
            self.signals.wait(1.0)
        return code

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.stop_wanted and (left := deadline - time.monotonic()) > 0:
            self.signals.wait(min(left, 0.5))

    def _stop_message(self, code: int) -> str:
        if self.signals.terminated:
            return f"the supervisor was told to end; the driver ended with {describe(code)}"
        # Whoever had to use force has left a note, because only he knows why.
        note = (read_json(self.directory.stop) or {}).get("force")
        return note or f"stopped as asked; the driver ended with {describe(code)}"

    def _finish(self, success: bool, message: str) -> int:
        if self.spec.kind == "application":
            state = "COMPLETED" if success else "FAILED"
        elif self.stop_wanted:
            state = "STOPPED"
        else:
            state = "SUCCEEDED" if success else "FAILED"
        self.status["ended_at"] = now()
        self._report(state, message)
        return 0 if success else 1

    def _report(self, state: str, message: str) -> None:
        self.status |= {"state": state, "message": message, "updated_at": now()}
        write_json(self.directory.status, self.status)


def describe(code: int) -> str:
    """Say what an exit code means; for a signal, a JVM or a shell may give 128 plus its number."""
    number = -code if code < 0 else code - 128
    if code < 0 or 128 < code < 160:
        try:
            return signal.Signals(number).name
        except ValueError:
            pass
    return f"exit code {code}"


def kill_group(pid: int, number: int) -> None:
    """Signal the process group that `pid` leads, if any of it is left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def main(argv: list[str] | None = None) -> int:
    """Run the supervisor of the given directory; the exit status is 0 if its last driver succeeded."""
    parser = argparse.ArgumentParser(description="Supervise one application or job of the embedded target.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--lock-fd", type=int, help="descriptor of the lock, if the starter already holds it")
    options = parser.parse_args(argv)
    directory = AppDirectory(options.directory.resolve())
    document = read_json(directory.spec)
    if document is None:
        sys.stderr.write(f"{directory.spec} is missing or not a JSON object: start the application by its target.\n")
        return 2
    lock = options.lock_fd if options.lock_fd is not None else acquire(directory.lock, patience=1.0)
    if lock is None:
        sys.stderr.write(f"{directory.path} is in use by another supervisor or driver: stop that first.\n")
        return 3
    return Supervisor(directory, Spec(**document), lock).run()


if __name__ == "__main__":
    sys.exit(main())
