"""Makes a feed of its settings and runs it; lists the feeds of a file."""

import argparse
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
    return Report(feed.name, feed.topic, FeedMetrics(metrics), Retry(feed.retry), feed.quiet)


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


def run_feed(arguments: argparse.Namespace, producer: ProducerSettings, stop: StopRequest) -> dict[str, Any]:
    """Run the feed that the command line names; raises BadInputError and IngestError."""
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
