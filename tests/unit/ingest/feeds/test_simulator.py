"""The simulated market as a feed: the messages of `simulate-market`, repeatable and resumable."""

import time

from ingest import contracts, simulate
from ingest.feeds import DEFAULT_FILE
from ingest.feeds.settings import load
from ingest.feeds.simulator import SimulatedMarket
from ingest.simulate import SimulationSettings
from tests.unit.ingest.feeds.sources import message, new_report, taken

SETTINGS = SimulationSettings(seed=7, rate=1000.0, start_time=1_704_067_200.0)


def test_it_sends_what_the_simulation_gives_and_again_the_same():
    first = taken(SimulatedMarket(SETTINGS, new_report()), 50)
    wanted = [each for each, _ in zip(simulate.market(SETTINGS), range(50), strict=False)]
    assert [item.message for item in first] == wanted
    assert [item.raw for item in first] == [item.raw for item in taken(SimulatedMarket(SETTINGS, new_report()), 50)]
    for item in first:
        contracts.load("market-data").check(message(item))


def test_it_keeps_its_rate():
    began = time.monotonic()
    taken(SimulatedMarket(SimulationSettings(rate=100.0), new_report()), 51)
    assert time.monotonic() - began >= 0.5


def test_it_continues_behind_what_was_sent_of_the_same_simulation():
    messages = [message(item) for item in taken(SimulatedMarket(SETTINGS, new_report()), 20)]
    feed = SimulatedMarket(SETTINGS, new_report())
    other = {"event_id": "simulated/8/2024-01-01T00:00:00Z/1000/15", "symbol": "BTC/USDT"}
    feed.restore([*reversed(messages[:10]), other])
    assert [message(item) for item in taken(feed, 10)] == messages[10:]


def test_what_a_symbols_partition_lacks_is_sent_though_another_is_further():
    messages = [message(item) for item in taken(SimulatedMarket(SETTINGS, new_report()), 20)]
    feed = SimulatedMarket(SETTINGS, new_report())
    behind = messages[9]["symbol"]
    feed.restore([each for each in messages[:10] if each["symbol"] != behind])
    lacking = [each for each in messages[:10] if each["symbol"] == behind]
    assert [message(item) for item in taken(feed, 10 + len(lacking))] == [*lacking, *messages[10:]]


def test_the_shipped_feed_starts_now():
    source = load(DEFAULT_FILE, "market-simulator").source
    assert isinstance(source, SimulationSettings)
    assert abs(source.start_time - time.time()) < 60
    assert (source.rate, source.seed, source.count) == (50, 1, 0)
