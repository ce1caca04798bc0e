"""Runs the tool that looks into an app's checkpoint, and takes it back, where and as the app itself runs.

The tool (`streamkit.recovery`) is submitted by the app's own application.yaml, with another main file: so it has the
app's image, users, storage and settings on every target. To change a checkpoint it runs **under the app's name**. That
is the claim: a target never runs two of a name, so no driver and no other run can have the app from before the plan is
made until the change is done. To only look it runs as `<app>-recovery`, beside a running app.

    python -m millrace.recovery event-windows rewind --to-batch 12
"""

import argparse
import getpass
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from millrace import storage
from millrace.config import load_settings
from millrace.errors import MillraceError
from millrace.targets import get_target
from millrace.targets.base import ApplicationState, ApplicationStatus
from millrace.targets.manifest import load_document

TOOL = "local:///opt/millrace/spark-apps/streamkit/recovery/__main__.py"
READING = ("inspect", "check", "state")
CHANGING = ("rewind",)
LOOK_INTERVAL = 0.5
_APPLICATION = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Request:
    """What the tool is to do."""

    application: str
    """The folder of the app in spark-apps/."""
    action: str
    """One of READING and CHANGING."""
    arguments: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    """`key.path=value` settings that the app is run with."""
    output: tuple[str, ...] = ("recovery", "result.json")
    """Where the result goes, below MILLRACE_STORAGE."""

    @property
    def name(self) -> str:
        """The name that the tool runs under."""
        return self.application if self.action in CHANGING else f"{self.application}-recovery"


@dataclass(frozen=True)
class Result:
    """What the tool said."""

    status: int
    values: list[dict[str, Any]]
    text: str
    error: str


def manifest_of(application: str) -> Path:
    """Return the path of an app's application.yaml. Raises MillraceError if there is no such app."""
    folder = load_settings().root / "spark-apps"
    path = folder / application / "application.yaml"
    if not _APPLICATION.fullmatch(application) or not path.is_file():
        known = ", ".join(sorted(found.parent.name for found in folder.glob("*/application.yaml")))
        raise MillraceError(f"There is no application {application!r} in {folder}: choose one of {known}.")
    return path


def tool_document(document: Mapping[str, Any], request: Request) -> dict[str, Any]:
    """Return the manifest that runs the tool in the place of an app."""
    spec = dict(document["spec"])
    claimed = ["--claimed", "--yes"] if request.action in CHANGING else []
    spec["mainApplicationFile"] = TOOL
    spec["arguments"] = [
        *(spec.get("arguments") or ()),
        *(part for each in request.overrides for part in ("--set", each)),
        *(request.action, *claimed, "--output", storage.url(*request.output)),
        *request.arguments,
    ]
    # Asked again it looks again; by itself it would do so without being asked.
    spec["restartPolicy"] = {"type": "Never"}
    return {**document, "metadata": {**document["metadata"], "name": request.name}, "spec": spec}


def start_tool(request: Request, owner: str, labels: Mapping[str, str] | None = None) -> ApplicationStatus:
    """Start the tool, or find the one that `owner` has started.

    Raises OwnedByAnotherError if the app runs, or somebody else has claimed it, and this action needs the claim.
    """
    document = tool_document(load_document(manifest_of(request.application)), request)
    with tempfile.TemporaryDirectory(prefix="millrace-recovery-") as folder:
        path = Path(folder) / "application.yaml"
        path.write_text(yaml.safe_dump(document))
        target = get_target()
        before = target.application_status(request.name)
        if before.state.ended:
            # What an earlier one said is not this one's answer.
            storage.delete_tree(*request.output)
        return target.start_application(path, owner, labels=labels)


def read_result(request: Request, status: ApplicationStatus) -> Result:
    """Return what the tool said. Raises MillraceError if it ended without a word."""
    document = storage.read_json(*request.output)
    if document is None:
        raise MillraceError(
            f"{request.action} of {request.application} ended without a result ({status.state}: "
            f"{status.message or 'it says no more'}): see its log, {status.log}."
        )
    return Result(document["status"], document["values"], "\n".join(document["texts"]), document["error"])


def run_tool(
    request: Request, owner: str, timeout: float, look: Callable[[ApplicationStatus], object] = lambda _: None
) -> Result:
    """Run the tool to its end and return what it said. Raises MillraceError; after `timeout` seconds too."""
    deadline = time.monotonic() + timeout
    status = start_tool(request, owner)
    while not status.state.ended or status.state is ApplicationState.NEW:
        if time.monotonic() > deadline:
            raise MillraceError(f"{request.name} has not ended after {timeout:g} s: see its log, {status.log}.")
        look(status)
        time.sleep(LOOK_INTERVAL)
        status = get_target().application_status(request.name)
    return read_result(request, status)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is the tool's, or 2 if it could not be run."""
    parser = argparse.ArgumentParser(
        prog="python -m millrace.recovery",
        description="Look into an app's checkpoint, or take it back, on the target that MILLRACE_TARGET names.",
        epilog="Further arguments are those of `python -m streamkit.checkpoint <action> --help`.",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="as the app is run with")
    parser.add_argument("--timeout", type=float, default=1800.0, metavar="SECONDS", help="default 1800")
    parser.add_argument("application", help="a folder of spark-apps/")
    parser.add_argument("action", choices=[*READING, *CHANGING])
    options, rest = parser.parse_known_args(argv)
    owner = f"recovery/{getpass.getuser()}@{socket.gethostname()}/{os.getpid()}"
    yes, as_json = "--yes" in rest, "--json" in rest
    arguments = [each for each in rest if each not in ("--yes", "--json")]

    def run(*more: str) -> Result:
        output = ("recovery", options.application, f"{options.action}-{time.time_ns()}.json")
        request = Request(options.application, options.action, (*arguments, *more), tuple(options.set), output)
        try:
            return run_tool(request, owner, options.timeout)
        finally:
            storage.delete_tree(*output)

    try:
        asks = options.action in CHANGING and not yes and "--dry-run" not in rest
        result = run("--dry-run") if asks else run()
        if asks and not result.error:
            sys.stdout.write(f"{result.text}\n")
            if not _agreed():
                sys.stderr.write("Nothing was changed.\n")
                return 1
            # Planned once more, under a claim that is held until it is done.
            result = run()
    except MillraceError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if result.error:
        sys.stderr.write(f"{result.error}\n")
    elif as_json:
        sys.stdout.writelines(f"{json.dumps(value)}\n" for value in result.values)
    else:
        sys.stdout.write(f"{result.text}\n")
    return result.status


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise MillraceError("Nobody is there to ask: say --yes to go on without a question.")
    sys.stdout.write("Go on? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


if __name__ == "__main__":
    sys.exit(main())
