"""The sub-commands `feed` and `feeds` of `python -m ingest`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingest import contracts
from ingest.errors import BadInputError
from ingest.feeds import health, settings
from ingest.feeds.binance import BinanceTrades
from ingest.feeds.breaker import Retry
from ingest.feeds.coinbase import CoinbaseTicker
from ingest.feeds.interface import Feed
from ingest.feeds.report import FeedMetrics, Report
from ingest.feeds.rest import RestFeed, RestSettings
from ingest.feeds.runner import Limits, Route, run
from ingest.feeds.settings import FeedSettings
from ingest.feeds.simulator import SimulatedMarket
from ingest.feeds.trades import StreamSettings
from ingest.kafka import ProducerSettings
from ingest.progress import Metrics
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
Common = Callable[[Any, str, str, str, str], argparse.ArgumentParser]


def add(commands: Any, common: Common, producer: Callable[[argparse.Namespace], ProducerSettings]) -> None:
    """Add both sub-commands; `common` makes one with the options that all senders have."""
    one = common(commands, "feed", "send what a live source gives, until stopped", _EXAMPLES, "")
    one.add_argument("name", help="name of the feed: `python -m ingest feeds` lists them")
    one.add_argument("--settings", type=Path, default=settings.DEFAULT_FILE, metavar="FILE", help=_FILE)
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
    listing_of.add_argument("--settings", type=Path, default=settings.DEFAULT_FILE, metavar="FILE", help=_FILE)
    listing_of.set_defaults(run=None)


_FILE = "settings of the feeds (default: the feeds.yaml that comes with ingest)"


def _at_least_0(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} isn't a whole number from 0 on")
    return int(text)


def listing(path: Path) -> str:
    """Return the feeds of a file as a table; raises BadInputError if one of them is mistaken."""
    rows = [("NAME", "KIND", "TOPIC", "WHAT IT SENDS")]
    for each in settings.load_all(path):
        build(each, report_for(each, Metrics()))
        rows.append((each.name, each.kind, each.topic, each.description))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in rows
    )


def report_for(feed: FeedSettings, metrics: Metrics) -> Report:
    """Return what counts and shows a feed's state."""
    return Report(feed.name, feed.topic, FeedMetrics(metrics), Retry(feed.retry))


def build(feed: FeedSettings, report: Report) -> Feed:
    """Make a feed of its settings; raises BadInputError if they don't fit its contract."""
    contract = contracts.load(feed.contract, feed.contract_version)
    if isinstance(feed.source, RestSettings):
        return RestFeed(feed.source, contract, report, feed.where)
    if feed.contract != "market-data":
        raise BadInputError(f"{feed.where}.contract: {feed.kind} sends market-data, not {feed.contract}.")
    if isinstance(feed.source, StreamSettings):
        made = BinanceTrades if feed.kind == "binance-trades" else CoinbaseTicker
        return made(feed.source, report)
    return SimulatedMarket(feed.source, report)


def _run(arguments: argparse.Namespace, producer: ProducerSettings, stop: StopRequest) -> dict[str, Any]:
    feed = settings.load(arguments.settings, arguments.name, arguments.set, arguments.topic)
    metrics = Metrics()
    report = report_for(feed, metrics)
    source = build(feed, report)
    if arguments.metrics_port is not None:
        health.serve(arguments.metrics_port, report, metrics.registry)
    contract = contracts.load(feed.contract, feed.contract_version)
    route = Route(feed.name, feed.topic, feed.dead_letter_topic, contract, feed.max_record_bytes)
    limits = Limits(arguments.count, arguments.seconds)
    return run(source, route, limits, producer=producer, stop=stop, report=report, metrics=metrics)
