"""Prices into bars: what counts, what is left out and counted, and a table that holds each bar once."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pendulum
import polars as pl
import pytest

from millrace import kafka, market, market_steps, quality, records, tables
from millrace.errors import MillraceError
from millrace.venues import Hours

START = datetime.now(UTC).replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=1)
END = START + timedelta(minutes=15)
BAR = timedelta(minutes=5)
OPEN = [Hours("binance", "24/7", ((START, END),), open_at_end=True, next_open=None)]
CLOSED = [Hours("nyse", "XNYS", (), open_at_end=False, next_open=END)]


@dataclass
class Record:
    """What market.py takes of a Kafka record."""

    content: bytes

    def value(self) -> bytes:
        return self.content

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7


def price(seconds: float, value: float, event_id: str | None = None, **more: Any) -> Record:
    """A record of a trade so many seconds after the interval's start."""
    time = (START + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {
        "schema_version": 1,
        "event_id": event_id or f"{seconds}/{value}",
        "event_type": "trade",
        "event_time": time,
        "source": "binance",
        "symbol": "BTC/USDT",
        "price": value,
        "quantity": 1.0,
        **more,
    }
    return Record(json.dumps({name: field for name, field in message.items() if field is not ...}).encode())


def read(*given: Record) -> market.Prices:
    return market.prices(given, START, END)


def bars(*given: Record) -> list[dict[str, Any]]:
    return market.bars(read(*given).frame, BAR, OPEN).rows(named=True)


def test_a_bar_is_open_high_low_close_volume_and_mean_price() -> None:
    given = [price(10, 100, quantity=1.0), price(200, 130, quantity=3.0), price(100, 90), price(299.999, 110)]
    (bar,) = bars(*given)
    assert bar == {
        "source": "binance", "symbol": "BTC/USDT", "bar_start": START, "bar_seconds": 300,
        "open": 100, "high": 130, "low": 90, "close": 110, "volume": 6,
        "vwap": (100 + 390 + 90 + 110) / 6, "trades": 4, "in_session": True, "day": START.date(),
    }  # fmt: skip


def test_bars_are_by_source_symbol_and_time() -> None:
    found = bars(price(0, 1), price(300, 2), price(1, 3, symbol="ETH/USD"), price(2, 4, source="coinbase"))
    assert [(bar["source"], bar["symbol"], bar["bar_start"]) for bar in found] == [
        ("binance", "BTC/USDT", START),
        ("binance", "BTC/USDT", START + BAR),
        ("binance", "ETH/USD", START),
        ("coinbase", "BTC/USDT", START),
    ]


def test_tickers_make_a_bar_only_without_trades() -> None:
    ticker = {"event_type": "ticker", "quantity": None}
    (both,) = bars(price(1, 999, **ticker), price(2, 100))
    assert (both["high"], both["trades"]) == (100, 1)
    (alone,) = bars(price(1, 999, **ticker), price(2, 998, **ticker))
    assert (alone["open"], alone["close"], alone["volume"], alone["vwap"]) == (999, 998, 0, None)


def test_of_two_prices_of_the_same_instant_the_one_that_came_last_closes() -> None:
    (bar,) = bars(price(1, 5), price(7, 10, "first"), price(7, 11, "second"))
    assert bar["close"] == 11


def test_a_bar_outside_of_trading_hours_says_so() -> None:
    half = [Hours("binance", "x", ((START, START + BAR),), open_at_end=False, next_open=None)]
    found = market.bars(read(price(1, 5), price(301, 5), price(1, 5, source="other")).frame, BAR, half)
    assert found["in_session"].to_list() == [True, False, False]


def test_what_is_left_out_is_counted() -> None:
    found = read(
        price(1, 100, "a"), price(1, 100, "a"), price(2, 100, "a", source="coinbase"),
        price(-1, 100), price(900, 100), price(3, -5), Record(b"{nonsense"), price(3, 5, schema_version=99),
        price(4, 1, event_type="heartbeat", symbol=..., price=..., quantity=...),
    )  # fmt: skip
    assert found.counts == {
        "records": 9, "bad": 3, "heartbeats": 1, "late": 1, "early": 1, "duplicates": 1, "used": 2,
    }  # fmt: skip
    assert sum(found.counts.values()) == 2 * found.counts["records"]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [price(number, 100 + number) for number in range(10)]
    whole = read(*given)
    monkeypatch.setattr(market, "CHUNK", 3)
    assert read(*given).frame.equals(whole.frame)


def test_an_interval_without_prices_makes_no_bars_but_the_same_columns() -> None:
    empty, some = market.bars(read().frame, BAR, OPEN), market.bars(read(price(1, 1)).frame, BAR, OPEN)
    assert empty.height == 0
    assert empty.schema == some.schema


def test_the_table_is_what_the_rules_of_data_quality_expect() -> None:
    rules = quality.load_rules("market_data")
    schema = market.bars(read(price(1, 1)).frame, BAR, OPEN).schema
    assert {name: str(schema[name]) for name in rules.columns} == dict(rules.columns)


def test_open_venues_without_a_price_are_named() -> None:
    assert market.silent(read().frame, [*OPEN, *CLOSED]) == ["binance"]
    assert market.silent(read(price(1, 1)).frame, OPEN) == []


def test_old_intervals_are_refused_because_the_topic_may_have_less_of_them() -> None:
    topics = Path(__file__).parents[3] / "contracts" / "topics.yaml"
    market.check_retention(topics, START, START + timedelta(days=3))
    with pytest.raises(MillraceError, match="keeps records for 3 days, .* the bars .* stay"):
        market.check_retention(topics, START, START + timedelta(days=3, seconds=1))


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Record]:
    """A topic of one partition in memory: a record's offset is its place."""
    held: list[Record] = []

    def offsets_at(_: Any, __: str, moment: datetime) -> dict[int, int]:
        times = [datetime.fromisoformat(json.loads(record.content)["event_time"]) for record in held]
        return {0: sum(time < moment for time in times)}

    def read_topic(_: Any, __: str, ranges: dict[int, tuple[int, int]]) -> list[Record]:
        return [held[place] for first, end in ranges.values() for place in range(first, end)]

    monkeypatch.setattr(kafka, "connection_config", lambda: {})
    monkeypatch.setattr(kafka, "offsets_at", offsets_at)
    monkeypatch.setattr(records, "read_topic", read_topic)
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    return held


def context(number: int = 0, **params: Any) -> dict[str, Any]:
    start = START + number * timedelta(minutes=15)
    return {
        "run_id": f"scheduled__{start.isoformat()}",
        # As Airflow hands them out.
        "data_interval_start": pendulum.instance(start),
        "data_interval_end": pendulum.instance(start + timedelta(minutes=15)),
        "params": {"bar_minutes": 5, "freshness_minutes": 10, **params},
    }


def run(of_run: dict[str, Any]) -> dict[str, Any]:
    ranges = json.loads(json.dumps(market_steps.check_freshness(timedelta(seconds=30), of_run)))
    counts = market_steps.process(ranges, of_run)
    return {**counts, "made": market_steps.aggregate(of_run), **market_steps.store(of_run)}


def test_runs_and_repeated_runs_in_any_order_leave_each_bar_once(topic: list[Record]) -> None:
    topic += [price(30 * number, 100 + number) for number in range(90)]  # three intervals
    for number in (0, 1, 0, 2, 1):
        assert run(context(number))["bars"] == 3
    held = tables.read("market_data").sort("bar_start")
    assert held.height == 9
    assert held["bar_start"].to_list() == [START + number * BAR for number in range(9)]
    assert held["trades"].sum() == 90
    assert held["open"].to_list()[:2] == [100, 110]


def test_bars_of_another_length_stand_beside_each_other(topic: list[Record]) -> None:
    topic += [price(30 * number, 100) for number in range(30)]
    run(context())
    run(context(bar_minutes=15))
    assert sorted(tables.read("market_data")["bar_seconds"].to_list()) == [300, 300, 300, 900]


def test_an_open_market_without_records_fails_and_says_where_to_look(topic: list[Record]) -> None:
    topic.append(price(1, 100))
    with pytest.raises(Exception, match="No record came to market-data in the 10 minutes before .*binance.* is open"):
        run(context())


def test_closed_markets_without_records_are_skipped(topic: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    topic.append(price(-600, 100))
    monkeypatch.setattr(market_steps, "_hours", lambda _: CLOSED)
    with pytest.raises(AirflowSkipException):
        run(context())


def test_closed_markets_with_records_are_processed_all_the_same(
    topic: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    topic.append(price(5, 100, source="nyse"))
    monkeypatch.setattr(market_steps, "_hours", lambda _: CLOSED)
    assert run(context())["bars"] == 1


def test_the_last_interval_of_a_day_joins_its_files(topic: list[Record]) -> None:
    topic += [price(300 * number, 100) for number in range(14 * 12)]
    last = 14 * 4 - 1
    for number in (last - 2, last - 1):
        assert run(context(number))["files_removed"] is None
    assert run(context(last))["files_removed"] == 0  # Kept for a week, for those who read an older version.
    files = tables.open_table("market_data").file_uris(file_pruning_predicate=f"day = '{START.date()}'")
    assert len(files) == 1
    assert tables.read("market_data").height == 9


def test_market_hours_are_plain_values() -> None:
    found = market_steps.market_hours(context())
    assert json.loads(json.dumps(found)) == found
    assert all(venue["was_open"] for venue in found)


def test_a_read_outside_of_the_range_writes_nothing_outside(topic: list[Record]) -> None:
    """Rows outside of a run's interval can't be written by it: the table would refuse them."""
    topic.append(price(600, 100))
    run(context())
    outside = market.bars(read(price(5, 100)).frame, BAR, OPEN).with_columns(pl.col("bar_start") + timedelta(hours=1))
    with pytest.raises(MillraceError, match="Cannot write"):
        tables.replace("market_data", outside, market.condition(START, END, BAR))
