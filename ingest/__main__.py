"""The command line of the feeds: `python -m ingest --help`."""

import argparse
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import orjson

from ingest import (
    compatibility,
    consumer_commands,
    contracts,
    letter_commands,
    list_commands,
    logs,
    replay,
    simulate_commands,
)
from ingest.errors import BadInputError, IngestError
from ingest.feeds import command as feeds
from ingest.flights import DateRange
from ingest.kafka import ProducerSettings, security_config
from ingest.progress import Metrics, Progress, write_status
from ingest.sender import StopRequest

_EXIT = """
secured Kafka, by environment variables: KAFKA_SECURITY_PROTOCOL (SASL_SSL), KAFKA_SASL_MECHANISM
(SCRAM-SHA-512), KAFKA_USERNAME, KAFKA_PASSWORD, KAFKA_SSL_CA_LOCATION (PEM file).
exit status: 0 complete; 1 it failed while running (start it again); 2 it can't be done as asked;
130 or 143 stopped by SIGINT or SIGTERM, after everything queued was sent (for `feed`, which has no other
end, 0).
Logs go to standard error as JSON, on a terminal as plain text (MILLRACE_LOG_FORMAT=json or text says otherwise);
one line a second says how far it is; the last line of standard output is the summary.
"""
_REPLAY = """examples:
  # one month as fast as possible into the topic `events`
  python -m ingest replay --bootstrap-servers 127.0.0.1:9092 --from 2013-01-01 --days 31
  # one day at 3600 times its own pace: 24 s
  python -m ingest replay --from 2013-01-01 --days 1 --pace 3600

Started again with the same range it continues exactly where the topic ends, without a duplicate and without
a gap, however it was interrupted. A topic that holds another range is refused. One heartbeat per partition
ends the range; its event time lies --close-after-minutes after the last event, so that the last windows
close.
"""
_CONTRACTS = """Checks contracts/ against the rules of contracts/README.md: versions without a gap, each
compatible with the one before, and no released version changed. Prints one line for each problem; exit
status 1 if there is any.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m ingest",
        description="Feeds into Kafka. Each command has its own --help with examples.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="command")

    one = _feed(commands, "replay", "send recorded flights of 2013, exactly once each", _REPLAY, "events")
    one.add_argument(
        "--from",
        dest="first",
        type=_date,
        default=date(2013, 1, 1),
        metavar="DATE",
        help="first date (default 2013-01-01)",
    )
    one.add_argument("--days", type=int, default=31, help="number of days (default 31; 365 is the whole year)")
    one.add_argument(
        "--pace",
        type=float,
        default=0.0,
        metavar="N",
        help="N times real time; 0, the default, is as fast as possible",
    )
    one.add_argument(
        "--close-after-minutes",
        type=int,
        default=10,
        metavar="N",
        help="from the last event to the heartbeats (default 10)",
    )
    one.set_defaults(run=_replay)

    def connect(arguments: argparse.Namespace) -> tuple[ProducerSettings, Progress]:
        return _producer(arguments), _progress(arguments)

    simulate_commands.add(commands, _feed, connect, _instant)
    list_commands.add(commands, _feed, connect)
    letter_commands.add(commands, _feed, _producer, _progress, _instant)
    feeds.add(commands, _feed, _producer)
    consumer_commands.register(commands, _feed, _producer)

    check = commands.add_parser(
        "contracts",
        help="check the message contracts",
        description=_CONTRACTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("--release", action="store_true", help="record new versions as released")
    check.set_defaults(answer=_contracts)
    return top


def _feed(commands: Any, name: str, help_text: str, examples: str, topic: str) -> argparse.ArgumentParser:
    one = commands.add_parser(
        name,
        help=help_text,
        description=f"{help_text.capitalize()}.",
        epilog=examples + _EXIT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument(
        "--bootstrap-servers",
        default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"),
        metavar="HOST:PORT,...",
        help="Kafka brokers (default: the environment variable KAFKA_BOOTSTRAP_SERVERS)",
    )
    one.add_argument("--topic", default=topic, help=f"default {topic or 'as the settings say'}")
    one.add_argument(
        "--linger-ms",
        type=int,
        default=ProducerSettings.linger_ms,
        metavar="MS",
        help=f"how long a batch waits to fill (default {ProducerSettings.linger_ms})",
    )
    one.add_argument(
        "--connect-timeout",
        type=int,
        default=ProducerSettings.connect_timeout_seconds,
        metavar="SECONDS",
        help="how long to wait for a first answer (default 15)",
    )
    one.add_argument(
        "--delivery-timeout",
        type=int,
        default=ProducerSettings.delivery_timeout_seconds,
        metavar="SECONDS",
        help="how long to outlast a broker that is away (default 600)",
    )
    one.add_argument("--status-file", type=Path, metavar="PATH", help="write the summary to this file as well")
    one.add_argument("--metrics-port", type=int, metavar="PORT", help="serve Prometheus metrics on this port")
    return one


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a date such as 2013-01-31") from None


def _instant(text: str) -> float:
    try:
        moment = datetime.now(UTC) if text == "now" else datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} isn't an instant such as 2024-01-01T00:00:00Z") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), 3)


def _producer(arguments: argparse.Namespace) -> ProducerSettings:
    if not arguments.bootstrap_servers:
        raise BadInputError("no Kafka broker is given: set KAFKA_BOOTSTRAP_SERVERS or --bootstrap-servers (HOST:PORT).")
    return ProducerSettings(
        arguments.bootstrap_servers,
        security=security_config(),
        linger_ms=arguments.linger_ms,
        connect_timeout_seconds=arguments.connect_timeout,
        delivery_timeout_seconds=arguments.delivery_timeout,
    )


def _progress(arguments: argparse.Namespace) -> Progress:
    metrics = Metrics()
    if arguments.metrics_port is not None:
        metrics.serve(arguments.metrics_port)
    return Progress(arguments.command, arguments.topic, metrics)


def _replay(arguments: argparse.Namespace, stop: StopRequest) -> dict[str, Any]:
    settings = replay.ReplaySettings(
        producer=_producer(arguments),
        dates=DateRange(arguments.first, arguments.days),
        topic=arguments.topic,
        pace=arguments.pace,
        close_after_minutes=arguments.close_after_minutes,
    )
    return replay.replay(settings, stop, _progress(arguments))


def _contracts(arguments: argparse.Namespace) -> int:
    root = contracts.contracts_root()
    if arguments.release:
        print("\n".join(compatibility.release(root)) or "Nothing new to release.")
        return 0
    problems = compatibility.problems_of(root)
    print("\n".join(problems) or "The contracts keep their rules.")
    return 1 if problems else 0


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit status."""
    arguments = parser().parse_args(argv)
    logs.configure(app=f"ingest {arguments.command}", topic=getattr(arguments, "topic", None) or "")
    stop = StopRequest()
    try:
        if answer := getattr(arguments, "answer", None):  # a command that sends nothing
            return answer(arguments)
        if arguments.status_file is not None and not arguments.status_file.absolute().parent.is_dir():
            raise BadInputError(
                f"the folder of the status file {arguments.status_file} doesn't exist: create it first."
            )
        stop.install()
        summary = arguments.run(arguments, stop)
        print(orjson.dumps(summary, option=orjson.OPT_NON_STR_KEYS).decode(), flush=True)
        if arguments.status_file is not None:
            write_status(arguments.status_file, summary)
    except BadInputError as error:
        print(f"ingest {arguments.command}: {error}", file=sys.stderr)
        return 2
    except (IngestError, contracts.ContractError) as error:
        print(f"ingest {arguments.command}: {error}", file=sys.stderr)
        return 1
    return _status(arguments.command, summary, stop)


def _status(command: str, summary: dict[str, Any], stop: StopRequest) -> int:
    if stop.signal is not None and summary["state"] == "stopped":
        print(
            f"ingest {command}: stopped by signal {stop.signal}; start it again to continue.",
            file=sys.stderr,
        )
        return 128 + stop.signal
    if summary.get("not_replayed"):
        print(
            f"ingest {command}: {summary['not_replayed']} could not be replayed: see `refused`.",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
