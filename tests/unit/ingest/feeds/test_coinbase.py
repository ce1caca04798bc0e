"""Coinbase's ticker, from a local server that speaks its documented protocol."""

import json
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from ingest import contracts
from ingest.feeds.coinbase import CoinbaseTicker
from ingest.feeds.http import HttpSettings
from ingest.feeds.interface import SourceError
from ingest.feeds.report import Report
from ingest.feeds.trades import RefillSettings, StreamSettings
from ingest.feeds.websocket import WebSocketSettings
from tests.unit.ingest.feeds.sources import (
    break_off,
    coinbase,
    coinbase_heartbeat,
    coinbase_ticker,
    coinbase_trades,
    message,
    new_report,
    numbers,
    rest,
    stay,
    stream,
    taken,
)


def feed(url: str, report: Report, rest_url: str = "") -> CoinbaseTicker:
    refill = RefillSettings(rest_url, page_size=3, http=HttpSettings(requests_per_second=1000))
    return CoinbaseTicker(StreamSettings("ETH/USD", "ETH-USD", WebSocketSettings(url), refill), report)


def test_a_ticker_becomes_a_message_with_its_own_id_and_time():
    report = new_report()
    with stream(coinbase(coinbase_ticker(7, 100))) as source:
        (item,) = taken(feed(source.url, report), 1)
    contracts.load("market-data").check(message(item))
    assert message(item) == {
        "schema_version": 1, "event_id": "coinbase:ETH-USD:7", "event_type": "ticker",
        "event_time": "2022-03-16T18:42:07.146Z", "source": "coinbase", "symbol": "ETH/USD",
        "price": 3007.26, "quantity": 0.5, "side": "sell",
    }  # fmt: skip
    assert report.connected


def test_numbers_that_the_source_tells_as_one_ticker_are_no_loss_but_the_sequence_is_counted():
    report = new_report()
    with stream(coinbase(coinbase_ticker(1, 100), coinbase_ticker(5, 101), coinbase_ticker(6, 110))) as source:
        assert numbers(taken(feed(source.url, report), 3)) == [1, 5, 6]
    assert report.counts["gaps_sequence"] == 8
    assert "gaps_trade" not in report.counts


def test_a_trade_that_only_a_heartbeat_tells_was_missed_and_is_fetched():
    report = new_report()
    frames = [coinbase_ticker(4, 100), coinbase_heartbeat(4, 100), coinbase_heartbeat(9, 120), coinbase_ticker(10, 121)]
    with stream(coinbase(*frames)) as source, rest(coinbase_trades(20)) as history:
        items = taken(feed(source.url, report, history.url), 7)
    assert numbers(items) == [4, 5, 6, 7, 8, 9, 10]
    assert [request.query["after"] for request in history.requests] == ["10", "7"]
    assert message(items[1]) == message(items[1]) | {"price": 3005.26, "side": "sell"}  # of the taker, as in a ticker
    for item in items:
        contracts.load("market-data").check(message(item))
    assert "gaps_trade" not in report.counts


def test_a_trade_that_only_a_heartbeat_tells_is_a_gap_if_it_cant_be_fetched():
    report = new_report()
    frames = [coinbase_ticker(4, 100), coinbase_heartbeat(9, 120), coinbase_ticker(10, 121)]
    with stream(coinbase(*frames)) as source:
        assert numbers(taken(feed(source.url, report), 2)) == [4, 10]
    assert report.counts["gaps_trade"] == 5


@pytest.mark.parametrize("heartbeat", [True, False])
def test_a_stream_cut_in_the_middle_is_resumed_without_loss_or_repeat(heartbeat):
    report = new_report()
    cut = coinbase(coinbase_ticker(1, 100), coinbase_ticker(2, 101), then=break_off)
    again = [coinbase_ticker(8, 130), coinbase_ticker(8, 130), coinbase_ticker(9, 131)]
    after = coinbase(*([coinbase_heartbeat(6, 125)] if heartbeat else []), *again)
    with stream(cut, after) as source, rest(coinbase_trades(20)) as history:
        items = taken(feed(source.url, report, history.url), 8 if heartbeat else 9)
        assert len(source.subscriptions) == 2
    # After the heartbeat, whatever no ticker told was one of several trades at once.
    assert numbers(items) == ([1, 2, 3, 4, 5, 6, 8, 9] if heartbeat else list(range(1, 10)))
    assert report.counts["skipped_duplicate"] == 1
    assert "gaps_trade" not in report.counts


def test_a_heartbeat_without_a_trade_number_says_nothing():
    report = new_report()
    frames = [coinbase_ticker(4, 100), coinbase_heartbeat(0, 101), coinbase_ticker(5, 102)]
    with stream(coinbase(*frames)) as source:
        assert numbers(taken(feed(source.url, report), 2)) == [4, 5]
    assert not [name for name in report.counts if name.startswith("gaps")]


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        ("garbage", "not JSON"),
        (coinbase_ticker(2, 101, price="-"), "price: "),
        (coinbase_ticker(2, 101, time="yesterday"), "time: "),
        (coinbase_ticker(2, 101, product_id="BTC-USD"), "not of ETH-USD"),
        (coinbase_ticker(2, 101, trade_id=None), "without the number"),
    ],
)
def test_what_cant_be_a_message_gets_a_reason_and_the_stream_goes_on(frame, word):
    with stream(coinbase(coinbase_ticker(1, 100), frame, coinbase_ticker(3, 102))) as source:
        first, bad, last = taken(feed(source.url, new_report()), 3)
    assert numbers([first, last]) == [1, 3]
    assert bad.message is None
    assert word in bad.reason


def test_an_error_of_the_source_ends_the_session_and_unknown_types_are_counted():
    report = new_report()

    def script(connection: ServerConnection, _subscription: dict[str, Any]) -> None:
        connection.send(json.dumps({"type": "something_new"}))
        connection.send(json.dumps({"type": "error", "message": "Failed to subscribe", "reason": "no such product"}))
        stay(connection)

    with stream(script) as source, pytest.raises(SourceError, match="Failed to subscribe: no such product") as caught:
        list(feed(source.url, report).session())
    assert caught.value.kind == "refused"
    assert report.counts["skipped_unknown"] == 1
