"""Every external command goes through here: kubectl, helm, kind, docker, make."""

import json
import shlex
import subprocess
from collections.abc import Sequence
from typing import Any

from k8s.install.errors import UserError
from k8s.install.releases import REPOSITORY

TIMEOUT_SECONDS = 120
"""For commands that only ask."""
HELM_SECONDS = 900
HOW_TO_GET = {
    "docker": "install Docker Engine or Docker Desktop, and start it",
    "kind": "install kind (https://kind.sigs.k8s.io)",
    "kubectl": "install kubectl (https://kubernetes.io/docs/tasks/tools)",
    "helm": "install helm (https://helm.sh)",
    "make": "install GNU make",
}


class CommandError(UserError):
    """A command failed; the message has the end of what it wrote."""


def run(
    arguments: Sequence[str], *, stdin: str | None = None, timeout: float = TIMEOUT_SECONDS, show: bool = False
) -> str:
    """Run a command in the repository's root; return what it wrote.

    Args:
        arguments: the program and its arguments. No secret may be among them.
        stdin: what it reads; this is the way for secrets.
        timeout: seconds.
        show: let the user see what it writes (then nothing is returned).

    Raises:
        CommandError: it is not installed, failed or took too long.
    """
    try:
        result = subprocess.run(
            list(arguments),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=None if show else subprocess.PIPE,
            stderr=None if show else subprocess.PIPE,
            text=True,
            timeout=timeout,
            check=False,
            cwd=REPOSITORY,
        )
    except FileNotFoundError:
        raise missing(arguments[0]) from None
    except subprocess.TimeoutExpired:
        raise CommandError(f"`{shlex.join(arguments)}` did not end within {timeout:.0f} s.") from None
    if result.returncode < 0:
        raise CommandError(f"`{shlex.join(arguments)}` was ended by signal {-result.returncode}.")
    if result.returncode:
        raise CommandError(f"`{shlex.join(arguments)}` failed: {last_lines(result.stderr or result.stdout or '')}")
    return result.stdout or ""


def ask_json(arguments: Sequence[str]) -> Any:
    """Run a command that writes JSON; return it. Raises CommandError."""
    text = run(arguments)
    try:
        return json.loads(text)
    except ValueError:
        raise CommandError(f"`{shlex.join(arguments)}` wrote no JSON: {last_lines(text)}") from None


def missing(program: str) -> CommandError:
    """The error for a program that is not on the path."""
    return CommandError(f"{program} is not on PATH: {HOW_TO_GET.get(program, 'install it')}, then try again.")


def last_lines(text: str, count: int = 3) -> str:
    """The end of what a program wrote, on one line."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return " / ".join(lines[-count:]) or "it wrote nothing"
