"""The commands of the finite feeds, `people`, `orders` and `samples`, for the command line in `__main__`."""

import argparse
from collections.abc import Callable
from typing import Any

from ingest import contracts, lists, once
from ingest.commands import AddFeed, Command, Connect
from ingest.sender import StopRequest

_EXAMPLES = """examples:
  python -m ingest {command} --bootstrap-servers 127.0.0.1:9092
  python -m ingest {command} {example}

Started again it sends only what the topic does not hold yet, so each message is there once, however often it
was interrupted.
"""


def add(commands: Any, add_feed: AddFeed, connect: Connect) -> None:
    """Add all commands; `add_feed` makes a feed's parser, `connect` says where to send and what to count."""
    examples = _EXAMPLES.format(command="people", example="--people Frank=44,Grace=12")
    people = add_feed(commands, "people", "send five people, once each", examples, "input-topic")
    people.add_argument("--people", default="", metavar="NAME=AGE,...", help="further people (default none)")
    people.set_defaults(run=_runner("input-topic", lambda given: list(lists.people(given.people)), connect))

    examples = _EXAMPLES.format(command="orders", example="--count 500 --rate 50")
    orders = add_feed(commands, "orders", "send simulated orders, once each", examples, "orders")
    orders.add_argument("--count", type=int, default=10_000, help="number of orders (default 10000)")
    orders.add_argument("--seed", type=int, default=1, help="the same seed gives the same orders (default 1)")
    orders.set_defaults(run=_runner("orders", lambda given: list(lists.orders(given.count, given.seed)), connect))

    examples = _EXAMPLES.format(command="samples --contract my-pipeline", example="--contract my-pipeline --rate 5")
    samples = add_feed(commands, "samples", "send the sample messages of a contract, once each", examples, "")
    samples.add_argument("--contract", required=True, help="whose samples: contracts/<contract>/samples.jsonl")
    samples.set_defaults(run=_runner(None, lambda given: list(lists.samples(given.contract)), connect))

    for each in (people, orders, samples):
        each.add_argument(
            "--rate", type=float, default=0.0, help="messages per second; 0, the default, is as fast as possible"
        )


def _runner(
    contract: str | None, messages: Callable[[argparse.Namespace], list[contracts.Message]], connect: Connect
) -> Command:
    def run(arguments: argparse.Namespace, stop: StopRequest) -> dict[str, Any]:
        wanted = messages(arguments)
        producer, progress = connect(arguments)
        return once.send_once(
            wanted,
            contracts.load(contract or arguments.contract),
            arguments.topic or arguments.contract,
            rate=arguments.rate,
            producer=producer,
            stop=stop,
            progress=progress,
        )

    return run
