"""The commands of the simulators, for the command line in `__main__`."""

import argparse
from typing import Any

from ingest import contracts, simulate
from ingest.commands import AddFeed, Command, Connect, Instant
from ingest.sender import StopRequest

_EXAMPLES = """examples:
  # 1000 messages per second, until Ctrl-C
  python -m ingest {command} --rate 1000
  # the same 60,000 messages each time, without waiting
  python -m ingest {command} --rate 1000 --seconds 60 --seed 7 --fast
  # as a live feed
  python -m ingest {command} --rate 50 --start-time now

The same seed, rate and start time give the same bytes.
"""
# By command: the contract (and default topic), help, and what makes the messages.
SIMULATORS: dict[str, tuple[str, str, simulate.Feed]] = {
    "simulate-events": ("events", "send simulated flights at a set rate", simulate.events),
    "simulate-market": ("market-data", "send simulated trades at a set rate", simulate.market),
    "simulate-air-quality": ("air-quality", "send simulated sensor readings at a set rate", simulate.air_quality),
}


def add(commands: Any, add_feed: AddFeed, connect: Connect, instant: Instant) -> None:
    """Add all; `add_feed` makes a feed's parser, `connect` says where to send and count, `instant` reads a time."""
    for name, (contract, help_text, feed) in SIMULATORS.items():
        one = add_feed(commands, name, help_text, _EXAMPLES.format(command=name), contract)
        one.add_argument("--rate", type=float, default=100.0, help="messages per second (default 100)")
        length = one.add_mutually_exclusive_group()
        length.add_argument("--count", type=int, help="number of messages (default: until stopped)")
        length.add_argument("--seconds", type=float, help="seconds of event time, instead of --count")
        one.add_argument("--seed", type=int, default=1, help="the same seed gives the same messages (default 1)")
        one.add_argument(
            "--start-time",
            type=instant,
            default=instant("2024-01-01T00:00:00Z"),
            metavar="INSTANT",
            help="event time of the first message, such as 2024-01-01T00:00:00Z (the default), or `now`",
        )
        one.add_argument("--fast", action="store_true", help="don't wait for real time")
        one.add_argument(
            "--close-after-minutes",
            type=int,
            metavar="N",
            help="end with a heartbeat in each partition, N minutes after the last message (default: none)",
        )
        one.set_defaults(run=_runner(feed, contract, connect))


def _runner(feed: simulate.Feed, contract: str, connect: Connect) -> Command:
    def run(arguments: argparse.Namespace, stop: StopRequest) -> dict[str, Any]:
        count = arguments.count if arguments.seconds is None else round(arguments.seconds * arguments.rate)
        settings = simulate.SimulationSettings(
            seed=arguments.seed,
            rate=arguments.rate,
            count=count or 0,
            start_time=arguments.start_time,
            fast=arguments.fast,
            close_after_minutes=arguments.close_after_minutes,
        )
        producer, progress = connect(arguments)
        return simulate.simulate(
            feed,
            contracts.load(contract),
            arguments.topic,
            settings,
            producer=producer,
            stop=stop,
            progress=progress,
        )

    return run
