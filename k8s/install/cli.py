"""The command line: ``python -m k8s.install <command>``. The Makefile's targets call it."""

import argparse
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from k8s.install import kind
from k8s.install.cluster import Cluster
from k8s.install.console import say
from k8s.install.credentials import make_secrets
from k8s.install.errors import UserError
from k8s.install.kafka_ca import copy_kafka_ca
from k8s.install.pages import show_pages
from k8s.install.pipeline import run_pipeline
from k8s.install.preflight import check_cluster, check_programs
from k8s.install.releases import ENVIRONMENTS, check_folders, find_release
from k8s.install.steps import Sources, install_steps, perform, show
from k8s.install.uninstall import uninstall
from main_job.options import RangeError, RunOptions, add_options, chosen

AFTER_INTERRUPT = {
    "up": "`make kind-up` goes on from here, `make kind-down` removes what there is",
    "install": "the same command goes on from here",
    "uninstall": "the same command goes on from here",
    "down": "the same command goes on from here",
    "run": "the run goes on in the cluster: `make ui` shows it in Airflow",
    "ui": "",
}


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m k8s.install",
        description="Bring Millrace onto Kubernetes: kind on this machine, or any cluster of your kubeconfig.",
        epilog="--dry-run prints every command, to be typed by hand. docs/install.md has the same commands.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="<command>")

    def add(
        name: str, text: str, *, context: bool = True, environment: bool = False, dry: bool = False
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        if context:
            command.add_argument("--context", default=kind.CLUSTER.context, help="default: %(default)s")
        if environment:
            command.add_argument("--environment", choices=ENVIRONMENTS, default="kind", help="default: %(default)s")
        if dry:
            command.add_argument("--dry-run", action="store_true", help="only print the commands")
        return command

    add("up", "make the kind cluster if it is not there, and bring everything up in it", context=False, dry=True)
    command = add("down", "delete the kind cluster, after asking", context=False, dry=True)
    command.add_argument("--yes", action="store_true", help="do not ask")
    command = add("install", "install all releases in order, or one of them", environment=True, dry=True)
    command.add_argument("--only", metavar="RELEASE", help="only this release; what it needs must be there")
    command.add_argument(
        "--charts",
        type=Path,
        metavar="FOLDER",
        help="take the charts of others from here, each in a folder of its name",
    )
    command.add_argument(
        "--more-values",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="files <release>.yaml here win over the environment's values; may be repeated, then the last one wins",
    )
    command = add("uninstall", "uninstall all releases in reverse order, after asking", dry=True)
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.add_argument("--everything", action="store_true", help="namespaces, volumes, secrets and definitions too")
    add("secrets", "make the secrets that are absent", environment=True)
    add("kafka-ca", "copy the certificate of Kafka's authority to where its clients are")
    command = add("ui", "forward each page to this machine, and say where its password is")
    command.add_argument("--print", dest="only_print", action="store_true", help="only print the commands")
    command = add("run", "run the main job in the cluster and show its tasks")
    add_options(command)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status: 0 success, 1 failure, 2 bad input, 130 interrupted."""
    options = parser().parse_args(arguments)
    # The end that `kill` asks for is as orderly as Ctrl-C; and that one is heard also by what a script started in the
    # background, where shells have it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        return _dispatch(options)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        word = AFTER_INTERRUPT.get(options.command, "the same command goes on from here")
        print(f"\nStopped.{f' What is done stays: {word}.' if word else ''}", file=sys.stderr, flush=True)
        return 130
    except UserError as error:
        print(f"millrace: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - a mistake of ours: the user gets one line, the file has the rest
        descriptor, path = tempfile.mkstemp(prefix="millrace-error-", suffix=".log")
        with os.fdopen(descriptor, "w") as file:
            traceback.print_exc(file=file)
        print(f"millrace: internal error ({type(error).__name__}): please report it with {path}.", file=sys.stderr)
        return 70


def _dispatch(options: argparse.Namespace) -> int:
    match options.command:
        case "up":
            kind.up(options.dry_run)
            return 0
        case "down":
            kind.down(options.yes, options.dry_run)
            return 0
    cluster = Cluster(options.context)
    match options.command:
        case "install":
            _install(cluster, options)
        case "uninstall":
            uninstall(cluster, yes=options.yes, everything=options.everything, dry_run=options.dry_run)
        case "secrets":
            _reach(cluster)
            make_secrets(cluster, options.environment)
        case "kafka-ca":
            _reach(cluster)
            copy_kafka_ca(cluster)
        case "ui":
            _reach(cluster)
            show_pages(cluster, forward=not options.only_print)
        case "run":
            wanted = _chosen(options)
            _reach(cluster)
            return run_pipeline(cluster, wanted)
    return 0


def _install(cluster: Cluster, options: argparse.Namespace) -> None:
    if options.only:
        find_release(options.only)
    check_folders(options.charts, options.more_values)
    # Commands run at the root of the repository, wherever this one was typed.
    folders = tuple(folder.absolute() for folder in options.more_values)
    sources = Sources(options.charts and options.charts.absolute(), folders)
    steps = install_steps(cluster, options.environment, options.only, sources)
    if options.dry_run:
        show(steps)
        return
    for line in check_programs(["kubectl", "helm"]):
        say(line)
    _reach(cluster)
    perform(steps)
    say("Done.")


def _reach(cluster: Cluster) -> None:
    check_programs(["kubectl"])
    say(check_cluster(cluster))


def _chosen(options: argparse.Namespace) -> RunOptions:
    try:
        return chosen(options)
    except RangeError as error:
        raise UserError(str(error), 2) from None
