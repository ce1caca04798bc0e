"""The sub-commands `feed` and `feeds` of `python -m ingest`."""

import argparse
from pathlib import Path
from typing import Any

from ingest.commands import AddFeed, Producer
from ingest.feeds import DEFAULT_FILE
from ingest.kafka import ProducerSettings
from ingest.sender import StopRequest

_EXAMPLES = """examples:
  # BTC/USDT trades of Binance, with /healthz, /readyz and /metrics on port 8090
  python -m ingest feed binance-btc-usdt --metrics-port 8090
  # a hundred simulated trades as fast as a live source might send them
  python -m ingest feed market-simulator --set rate=1000 --count 100
  # a feed of your own
  python -m ingest feed my-api --settings my-feeds.yaml

It runs until it is stopped, and outlasts a source that is away. SIGTERM and SIGINT end it, with exit status 0, after
everything queued was sent. Started again it continues behind what the topic holds. docs/feeds.md names each feed.
"""
_LIST = """Lists the feeds of a settings file: name, kind, topic, and what each sends. A file with a mistake is refused
with one sentence that names the key.
"""


def add(commands: Any, common: AddFeed, producer: Producer) -> None:
    """Add both sub-commands; `common` makes one with the options that all senders have."""
    one = common(commands, "feed", "send what a live source gives, until stopped", _EXAMPLES, "")
    one.add_argument("name", help="name of the feed: `python -m ingest feeds` lists them")
    one.add_argument("--settings", type=Path, default=DEFAULT_FILE, metavar="FILE", help=_FILE)
    one.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override one setting of the feed (a.b=value)"
    )
    one.add_argument("--count", type=_at_least_0, default=0, help="end after so many messages (default: never)")
    one.add_argument("--seconds", type=_at_least_0, default=0, help="end after so many seconds (default: never)")
    one.set_defaults(run=lambda arguments, stop: _run(arguments, producer(arguments), stop))

    listing_of = commands.add_parser(
        "feeds",
        help="list the live feeds",
        description=_LIST,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing_of.add_argument("--settings", type=Path, default=DEFAULT_FILE, metavar="FILE", help=_FILE)
    listing_of.set_defaults(answer=_list)


_FILE = "settings of the feeds (default: the feeds.yaml that comes with ingest)"


def _at_least_0(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number from 0 on")
    return int(text)


def _list(arguments: argparse.Namespace) -> int:
    """Show the feeds of a file as a table; raises BadInputError if one of them is mistaken."""
    from ingest.feeds import start  # noqa: PLC0415 - its libraries take long to import, and no other command needs them

    print(start.listing(arguments.settings))
    return 0


def _run(arguments: argparse.Namespace, producer: ProducerSettings, stop: StopRequest) -> dict[str, Any]:
    from ingest.feeds import start  # noqa: PLC0415 - as above

    return start.run_feed(arguments, producer, stop)
