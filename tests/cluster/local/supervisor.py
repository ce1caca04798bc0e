"""The first process in a node's own namespaces: starts the node's programs, and ends with whoever started it.

It is process 1 of its process namespace: the moment it ends, however it ends, Linux kills every process in there, pods
included, and with the last of them go the mounts, links and firewall rules. It reads orders from its standard input, a
JSON object a line, and answers each with another; the end of its input is its end.
"""

import json
import os
import select
import signal
import subprocess
import sys
from typing import Any

DEFAULT_ACTION = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ignored by process 1 unless it says otherwise: the tests' own end is what counts."""

REAP_SECONDS = 1.0


class Supervisor:
    """Runs programs by name; takes in the processes that lost their parent."""

    def __init__(self) -> None:
        self._processes: dict[str, int] = {}
        self._ended: dict[int, int] = {}

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry an order out.

        - ``run``: run a command to its end; answers its status and what it wrote.
        - ``start``: start a program under a name, its output appended to a file.
        - ``status``: answers the exit status of a program, or null while it runs.
        - ``signal``: send a signal to a program.
        """
        match order["do"]:
            case "run":
                result = subprocess.run(
                    order["command"],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                return {"status": result.returncode, "output": result.stdout + result.stderr}
            case "start":
                self._processes[order["name"]] = self._start(order["command"], order["log"], order["environment"])
                return {}
            case "status":
                self.reap()
                return {"status": self._ended.get(self._processes[order["name"]])}
            case "signal":
                self.reap()
                process = self._processes[order["name"]]
                if process not in self._ended:
                    os.kill(process, order["number"])
                return {}
            case unknown:
                return {"error": f"there is no order {unknown!r}"}

    def _start(self, command: list[str], log: str, environment: dict[str, str]) -> int:
        """Not by subprocess, which would wait for the very processes that `reap` takes in."""
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
        try:
            return os.posix_spawn(command[0], command, environment, file_actions=actions, setsid=True)
        finally:
            os.close(output)
            os.close(null)

    def reap(self) -> None:
        """Take in whoever has ended: programs, and what others left behind."""
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if process == 0:
                return
            self._ended[process] = os.waitstatus_to_exitcode(status)


def main() -> None:
    """Obey until the orders end."""
    for number in DEFAULT_ACTION:
        signal.signal(number, signal.SIG_IGN)
    supervisor = Supervisor()
    while True:
        # Whoever gives an order waits for its answer, so no second line is ever in the buffer.
        if not select.select([sys.stdin], [], [], REAP_SECONDS)[0]:
            supervisor.reap()
            continue
        line = sys.stdin.readline()
        if not line:
            return
        try:
            answer = supervisor.obey(json.loads(line))
        except (OSError, subprocess.SubprocessError, KeyError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
