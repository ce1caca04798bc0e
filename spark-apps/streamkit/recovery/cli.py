"""The command line of recovery: `python -m streamkit.checkpoint inspect|check|state|rewind`."""

import argparse
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from streamkit.checkpoint import local_path
from streamkit.errors import first_line
from streamkit.recovery import NothingThereError, RecoveryError, rewinding, summary
from streamkit.recovery.arguments import parse_offsets, parser
from streamkit.recovery.broker import Broker
from streamkit.recovery.files import Files, LocalFiles, StoredFiles
from streamkit.recovery.layout import queries, read_checkpoint
from streamkit.recovery.soundness import Finding, check
from streamkit.recovery.state import read_state
from streamkit.recovery.table import TablePlan, restore
from streamkit.session import DELTA, object_store_conf, spark_conf
from streamkit.settings import AppSettings, ObjectStoreSettings, SettingsError, load_settings
from streamkit.settings_loader import expand


@dataclass(frozen=True)
class Job:
    """What a command works on."""

    options: argparse.Namespace
    settings: AppSettings | None
    root: str
    """The checkpoint, or the folder of several."""
    spark: Callable[[], SparkSession]
    files: Files

    @property
    def paths(self) -> list[str]:
        """The chosen checkpoints. Raises RecoveryError if there is none of that name."""
        found = queries(self.files, self.root)
        chosen = [path for path in found if self.options.query in (None, path.rpartition("/")[2])]
        if not chosen:
            names = ", ".join(path.rpartition("/")[2] for path in found)
            raise RecoveryError(f"{self.root}: there is no query {self.options.query}: choose one of {names}")
        return chosen

    @property
    def broker(self) -> Broker | None:
        """The broker to ask, if there is one."""
        if self.options.offline:
            return None
        if self.options.bootstrap_servers:
            return Broker(self.options.bootstrap_servers)
        return Broker.of(self.settings.source) if self.settings else None

    @property
    def table(self) -> str | None:
        """The Delta table, if there is one."""
        delta = self.settings.sinks.delta if self.settings else None
        table = self.options.table or (delta.path if delta else None)
        return (local_path(table) or table).rstrip("/") if table else None


@dataclass(frozen=True)
class Outcome:
    """What a command found or did."""

    status: int
    """The exit status."""
    values: Sequence[dict[str, Any]] = ()
    texts: Sequence[str] = ()
    """The same for people."""
    error: str = ""


def inspect_checkpoints(job: Job) -> Outcome:
    """Show what checkpoints hold."""
    found = [summary.summarize(job.files, read_checkpoint(job.files, p), job.options.batches) for p in job.paths]
    status = 0 if all(each["clean"] for each in found) else 1
    return Outcome(status, found, [summary.as_text(each) for each in found])


def check_checkpoints(job: Job) -> Outcome:
    """Say what is not sound."""
    findings: list[Finding] = []
    for path in job.paths:
        findings += check(job.files, read_checkpoint(job.files, path), job.broker, job.table)
    text = summary.findings_text(job.root, findings)
    return Outcome(1 if findings else 0, [asdict(each) for each in findings], [text])


def show_state(job: Job) -> Outcome:
    """Show rows of state."""
    options, found = job.options, []
    for path in job.paths:
        checkpoint = read_checkpoint(job.files, path)
        chosen = {"operator": options.operator, "store": options.store, "batch": options.batch, "limit": options.limit}
        found += read_state(job.spark(), job.files, checkpoint, **chosen)
    return Outcome(0, [asdict(each) for each in found], [summary.state_text(each) for each in found])


def rewind_checkpoint(job: Job) -> Outcome:
    """Take one query back. The app is claimed before anything is looked at."""
    options = job.options
    with _claim(options.lock):
        if len(job.paths) > 1:
            names = ", ".join(path.rpartition("/")[2] for path in job.paths)
            raise RecoveryError(f"{job.root}: holds several queries ({names}): choose one with --query")
        plan, backed_up = _plan(job, job.paths[0])
        result = [{"done": not options.dry_run, **_short(plan)}]
        if options.dry_run:
            return Outcome(0, result, [summary.plan_text(plan)])
        if not options.yes:
            sys.stdout.write(summary.plan_text(plan) + "\n")
            _ask()

        def take_back(table: TablePlan) -> None:
            restore(job.spark(), table)

        rewinding.rewind(job.files, plan, take_back, backed_up)
    return Outcome(0, result, [summary.plan_text(plan), f"done: the checkpoint as it was is in {plan.backup}"])


def _plan(job: Job, path: str) -> tuple[rewinding.Plan, bool]:
    options = job.options
    wanted = None if options.to_offsets is None else parse_offsets(options.to_offsets)
    if begun := rewinding.unfinished(job.files, path):
        plan, backed_up = begun
        if plan.target != (f"batch {options.to_batch}" if wanted is None else f"offsets {rewinding.brief(wanted)}"):
            raise RecoveryError(f"{path}: a rewind to {plan.target} began and did not finish: ask for that one first")
        return plan, backed_up
    checkpoint = read_checkpoint(job.files, path)
    table = None if options.keep_table else job.table
    if wanted is not None:
        return rewinding.plan_offsets(job.files, checkpoint, wanted, broker=job.broker, table=table), False
    return rewinding.plan_batch(job.files, checkpoint, options.to_batch, broker=job.broker, table=table), False


@contextmanager
def _claim(lock: Path | None) -> Iterator[None]:
    """Hold an app's lock, which its driver would hold; without one somebody else holds the app for us."""
    if lock is None:
        yield
        return
    try:
        # Not made here: under a name that is mistyped nobody would hold anything.
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise RecoveryError(f"{lock} cannot be opened ({error.strerror}): name the app's lock with --lock") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RecoveryError(f"{lock} is held: a driver or another run has this app: stop that first") from error
    finally:
        os.close(descriptor)


def _ask() -> None:
    if not sys.stdin.isatty():
        raise RecoveryError("nobody is there to ask: say --yes to rewind without a question")
    sys.stdout.write("Rewind? [y/N] ")
    sys.stdout.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RecoveryError("nothing was changed, as asked")


def _short(plan: rewinding.Plan) -> dict[str, Any]:
    """Return a plan without the names of all files."""
    return {**asdict(plan), "removed": len(plan.removed), "sources": sorted(plan.sources)}


COMMANDS = {
    "inspect": inspect_checkpoints,
    "check": check_checkpoints,
    "state": show_state,
    "rewind": rewind_checkpoint,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = parser().parse_args(argv)
    try:
        job = _job(options)
        try:
            outcome = COMMANDS[options.command](job)
        except RecoveryError as error:
            outcome = Outcome(2 if isinstance(error, NothingThereError) else 1, error=str(error))
            sys.stderr.write(f"{error}\n")
        lines = [json.dumps(value, default=str) for value in outcome.values] if options.json else outcome.texts
        sys.stdout.writelines(f"{line}\n" for line in lines)
        if options.output:
            place = local_path(options.output) or options.output
            _files(place, job.spark).write(place, json.dumps(asdict(outcome), default=str).encode())
    except (RecoveryError, SettingsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except PySparkException as error:
        sys.stderr.write(f"Spark can't do this: {first_line(error)}\n")
        return 1
    return outcome.status


def _job(options: argparse.Namespace) -> Job:
    settings = load_settings(options.settings.removeprefix("local://"), options.set) if options.settings else None
    if options.path is None and settings is None:
        raise RecoveryError("nothing to look at: give a checkpoint's path, or the app's settings with --settings")
    root = options.path or f"{settings.checkpoint_base}/{settings.application}"  # type: ignore[union-attr]
    root = (local_path(root) or root).rstrip("/")
    started: list[SparkSession] = []

    def spark() -> SparkSession:
        if not started:
            started.append(_session(settings, options.command))
        return started[0]

    return Job(options, settings, root, spark, _files(root, spark))


def _files(path: str, spark: Callable[[], SparkSession]) -> Files:
    return LocalFiles() if local_path(path) is not None else StoredFiles(spark())


def _session(settings: AppSettings | None, command: str) -> SparkSession:
    conf = (
        spark_conf(settings)
        if settings
        else object_store_conf(expand(ObjectStoreSettings(), os.environ, "environment"))
    )
    if settings is None and command == "rewind":
        conf |= DELTA  # without the app's settings nobody knows whether the table that is named needs it
    # In this process alone: what there is to do is reading and copying, and executors would cost a minute to get.
    builder = SparkSession.builder.master("local[2]").appName("recovery")
    quiet = {"spark.ui.enabled": "false", "spark.log.level": "ERROR", "spark.eventLog.enabled": "false"}
    for key, value in {**conf, **quiet}.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()
