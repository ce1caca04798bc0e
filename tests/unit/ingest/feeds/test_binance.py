"""Binance's trades, from a local server that speaks its documented protocol."""

import json
import threading
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from ingest import contracts
from ingest.feeds.binance import BinanceTrades
from ingest.feeds.http import HttpSettings
from ingest.feeds.interface import SourceError
from ingest.feeds.report import Report
from ingest.feeds.trades import RefillSettings, StreamSettings
from ingest.feeds.websocket import WebSocketSettings
from tests.unit.ingest.feeds.sources import (
    Answer,
    binance,
    binance_trade,
    break_off,
    historical_trades,
    message,
    new_report,
    numbers,
    rest,
    stay,
    stream,
    taken,
)


def feed(url: str, report: Report, rest_url: str = "", max_trades: int = 10_000, **websocket: Any) -> BinanceTrades:
    refill = RefillSettings(rest_url, max_trades, page_size=3, http=HttpSettings(requests_per_second=1000))
    return BinanceTrades(StreamSettings("BTC/USDT", "BTCUSDT", WebSocketSettings(url, **websocket), refill), report)


def trades(first: int, last: int) -> list[dict[str, Any]]:
    return [binance_trade(number) for number in range(first, last + 1)]


def test_a_trade_becomes_a_message_with_its_own_id_and_time():
    report = new_report()
    with stream(binance(*trades(7, 8))) as source:
        items = taken(feed(source.url, report), 2)
    for item in items:
        contracts.load("market-data").check(message(item))
    assert message(items[0]) == {
        "schema_version": 1, "event_id": "binance:BTCUSDT:7", "event_type": "trade",
        "event_time": "2023-11-14T22:13:21.750Z", "source": "binance", "symbol": "BTC/USDT",
        "price": 60007.5, "quantity": 0.001, "side": "buy",
    }  # fmt: skip
    assert message(items[1])["side"] == "sell"  # the buyer made the offer
    assert json.loads(items[0].raw) == binance_trade(7)
    assert report.connected
    assert report.counts == {"connections": 1}


def test_a_stream_cut_in_the_middle_is_resumed_without_loss_or_repeat():
    report = new_report()
    cut = binance(*trades(1, 5), then=break_off)
    with stream(cut, binance(*trades(13, 15))) as source, rest(historical_trades(14)) as history:
        items = taken(feed(source.url, report, history.url), 15)
        assert len(source.subscriptions) == 2
    assert numbers(items) == list(range(1, 16))
    assert [request.query["fromId"] for request in history.requests] == ["6", "9", "12"]
    assert message(items[5]) == message(items[5]) | {"price": 60006.5, "event_time": "2023-11-14T22:13:21.500Z"}
    for item in items:
        contracts.load("market-data").check(message(item))
    assert "gaps_trade" not in report.counts


def test_what_the_source_repeats_is_counted_and_not_sent_again():
    report = new_report()
    with stream(binance(*trades(1, 5), *trades(4, 6))) as source:
        assert numbers(taken(feed(source.url, report), 6)) == [1, 2, 3, 4, 5, 6]
    assert report.counts["skipped_duplicate"] == 2


def test_a_gap_that_cant_be_refilled_is_counted():
    report = new_report()
    with stream(binance(*trades(1, 3), *trades(10, 11))) as source:
        assert numbers(taken(feed(source.url, report), 5)) == [1, 2, 3, 10, 11]
    assert report.counts["gaps_trade"] == 6


def test_what_the_history_lacks_is_counted_and_so_is_its_failure():
    report = new_report()
    with stream(binance(*trades(1, 3), *trades(10, 11))) as source, rest(historical_trades(6)) as history:
        assert numbers(taken(feed(source.url, report, history.url), 8)) == [1, 2, 3, 4, 5, 6, 10, 11]
    assert report.counts["gaps_trade"] == 3
    with stream(binance(*trades(1, 3), *trades(10, 11))) as source, rest(lambda _: Answer({}, 500)) as history:
        report = new_report()
        assert numbers(taken(feed(source.url, report, history.url), 5)) == [1, 2, 3, 10, 11]
    assert report.counts["gaps_trade"] == 6
    assert report.counts["source_errors"] == 1


def test_no_more_is_refilled_than_allowed():
    report = new_report()
    with stream(binance(*trades(1, 2), *trades(20, 20))) as source, rest(historical_trades(19)) as history:
        items = taken(feed(source.url, report, history.url, max_trades=4), 7)
    assert numbers(items) == [1, 2, 16, 17, 18, 19, 20]
    assert report.counts["gaps_trade"] == 13


def test_it_continues_behind_what_the_topic_holds():
    report = new_report()
    with stream(binance(*trades(9, 10))) as source, rest(historical_trades(10)) as history:
        one = feed(source.url, report, history.url)
        others = ["binance:ETHUSDT:99", "simulated/1/x/50/3000", "binance:BTCUSDT:x"]
        one.restore([{"event_id": text} for text in ["binance:BTCUSDT:5", "binance:BTCUSDT:6", *others]])
        assert numbers(taken(one, 4)) == [7, 8, 9, 10]


@pytest.mark.parametrize(
    ("frame", "kind", "word"),
    [
        ("{this is no JSON", "malformed", "not JSON"),
        (b"\xff\xfe\x00", "malformed", "not JSON"),
        ("[]", "malformed", "not a JSON object"),
        (binance_trade(2, p="a lot"), "malformed", "p: "),
        (binance_trade(2, p=None), "malformed", "p: None"),
        (binance_trade(2, T="noon"), "malformed", "T: "),
        (binance_trade(2, s="ETHUSDT"), "malformed", "not of BTCUSDT"),
        (binance_trade(2, m="yes"), "malformed", "m: "),
        (binance_trade(0), "malformed", "without its number"),
    ],
)
def test_what_cant_be_a_message_keeps_its_bytes_and_gets_a_reason_and_the_stream_goes_on(frame, kind, word):
    with stream(binance(binance_trade(1), frame, binance_trade(3))) as source:
        first, bad, last = taken(feed(source.url, new_report()), 3)
    assert numbers([first, last]) == [1, 3]
    assert bad.message is None
    assert bad.kind == kind
    assert word in bad.reason
    expected = frame if isinstance(frame, str | bytes) else json.dumps(frame)
    assert bad.raw == (expected.encode() if isinstance(expected, str) else expected)


def test_pings_are_answered():
    answered = threading.Event()

    def ping(connection: ServerConnection) -> None:
        if connection.ping(b"1700000000").wait(10):
            answered.set()
        connection.send(json.dumps(binance_trade(2)))
        stay(connection)

    with stream(binance(binance_trade(1), then=ping)) as source:
        assert numbers(taken(feed(source.url, new_report()), 2)) == [1, 2]
    assert answered.is_set()


def test_an_announced_shutdown_and_a_connections_age_end_a_session_in_good_order():
    shutdown = {"e": "serverShutdown", "E": 1770123456789}
    with stream(binance(binance_trade(1), shutdown), binance(binance_trade(2))) as source:
        one = feed(source.url, new_report())
        assert numbers([item for item in one.session() if item]) == [1]  # no SourceError
        assert numbers(taken(one, 1)) == [2]
    with stream(binance(binance_trade(1))) as source:
        one = feed(source.url, new_report(), renew_after_seconds=0.5)
        assert numbers([item for item in one.session() if item]) == [1]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"error": {"code": 2, "msg": "Invalid request: unknown variant"}, "id": 1}, "refused"),
        ({"code": 2, "msg": "Invalid request"}, "refused"),
        (None, "disconnected"),
    ],
)
def test_a_refusal_and_a_disconnection_are_told_apart(answer, kind):
    def script(connection: ServerConnection, _subscription: dict[str, Any]) -> None:
        if answer is None:
            connection.close()
        else:
            connection.send(json.dumps(answer))
            stay(connection)

    with stream(script) as source, pytest.raises(SourceError) as caught:
        list(feed(source.url, new_report()).session())
    assert caught.value.kind == kind


def test_a_frame_that_would_fill_the_memory_ends_the_session():
    with stream(binance(binance_trade(1), "x" * 5_000_000)) as source, pytest.raises(SourceError) as caught:
        list(feed(source.url, new_report()).session())
    assert caught.value.kind == "oversized"


def test_a_source_that_is_silent_or_away_is_given_up():
    with stream(binance()) as source, pytest.raises(SourceError, match=r"sent nothing for 0\.3 s") as caught:
        list(feed(source.url, new_report(), silence_seconds=0.3).session())
    assert caught.value.kind == "silent"
    with pytest.raises(SourceError, match="can't be reached") as caught:  # the server is gone
        list(feed(source.url, new_report()).session())
    assert caught.value.kind == "connection"


def test_an_unknown_message_is_counted():
    report = new_report()
    with stream(binance({"e": "somethingNew", "E": 1}, binance_trade(1))) as source:
        taken(feed(source.url, report), 1)
    assert report.counts["skipped_unknown"] == 1
