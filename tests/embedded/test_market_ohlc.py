"""market-ohlc on a real broker: simulated trades, repeated ones, late ones and bad ones, and a SIGKILL in between.

One driver for all tests, started twice; its results are held against DuckDB's on the same records.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embedded.broker import Broker
from embedded.paths import REPOSITORY
from streamkit.checkpoint import inspect, local_listing
from tests.embedded.generated import (
    Progress,
    bad_records,
    letters_of,
    load_messages,
    read_rows,
    send_again,
    simulate,
    table_of,
    total,
)
from tests.embedded.spark_driver import PARTITIONS, Driver, Topics

pytestmark = pytest.mark.embedded

START = datetime(2024, 1, 1)
RATE, FIRST, SECOND = 5, 3000, 400  # messages per second of event time: ten minutes, then 80 s
BETWEEN = START + timedelta(seconds=FIRST / RATE)
EXPECTED = """
WITH prices AS (
    SELECT
        message ->> 'event_id' AS event_id, any_value(message ->> 'symbol') AS symbol,
        any_value(CAST(message ->> 'event_time' AS TIMESTAMPTZ)) AS event_time,
        any_value(CAST(message ->> 'price' AS DOUBLE)) AS price,
        any_value(CAST(message ->> 'quantity' AS DOUBLE)) AS quantity
    FROM messages
    WHERE message ->> 'event_type' = 'trade' AND message ->> 'event_id' LIKE 'simulated/%' GROUP BY ALL
)
SELECT
    time_bucket(INTERVAL 1 MINUTE, event_time) AS window_start, symbol,
    arg_min(price, (event_time, event_id)) AS open, max(price) AS high, min(price) AS low,
    arg_max(price, (event_time, event_id)) AS close, sum(quantity) AS volume,
    sum(price * quantity) / sum(quantity) AS vwap, count(*) AS events
FROM prices GROUP BY ALL
"""


def trade(moment: datetime, name: str, **changes: object) -> bytes:
    message = {
        "schema_version": 1,
        "event_id": name,
        "event_type": "trade",
        "event_time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": "test",
        "symbol": "BTC/USDT",
        "price": 1.0,
        "quantity": 1.0,
    }
    return json.dumps({k: v for k, v in {**message, **changes}.items() if v is not ...}).encode()


BAD: list[tuple[bytes | None, bytes, str]] = [
    (b"BTC/USDT", b'{"schema_version": 1,', "malformed JSON"),
    (b"BTC/USDT", trade(START, "bad-1", price=...), "invalid price: missing"),
    (b"BTC/USDT", trade(START, "bad-2", symbol="bitcoin"), "invalid symbol: 'bitcoin' does not match"),
    (b"BTC/USDT", trade(START, "bad-3", price=-1), "invalid price: '-1.0' is not more than 0"),
    (None, trade(START, "bad-4"), "null key"),
]


@dataclass
class Run:
    """What was sent, and what the driver said, before and after it was killed."""

    app: Driver
    topics: Topics
    repeated: tuple[int, int]
    late: int
    before: Progress
    after: Progress
    status: int


@pytest.fixture(scope="module")
def run(
    broker: Broker, spark_jars: Path, java_home: Path, submit_options: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Run]:
    topics = Topics(broker)
    app = Driver(
        topics,
        spark_jars,
        java_home,
        submit_options,
        tmp_path_factory.mktemp("market") / "storage",
        overrides=(f"dead_letter.topic={topics.dead}",),
        app=REPOSITORY / "spark-apps/market-ohlc",
        name="market-ohlc",
    )
    try:
        yield driven(app, topics)
    finally:
        app.kill()
        topics.close()


def driven(app: Driver, topics: Topics) -> Run:
    market = ("simulate-market", f"--rate={RATE}", "--seed=7")
    simulate(topics, *market, f"--count={FIRST}")
    first = topics.read(topics.events)
    at_once = send_again(topics, first[::10], partition=PARTITIONS - 1)
    for key, value, _ in BAD:
        topics.send(1, [value], key)
    topics.producer.flush()
    app.start()
    app.wait_for_watermark(BETWEEN - timedelta(minutes=2, seconds=1))
    before = app.wait_for("all of it", lambda found: read_rows(found) == FIRST + at_once + len(BAD))
    app.kill()

    # The last minute again, which the state must still know, and what lies behind the watermark: late, known or not.
    recent = [record for record in first if event_time(record.value()) >= BETWEEN - timedelta(minutes=1)]
    known = [record for record in first if event_time(record.value()) < BETWEEN - timedelta(minutes=5)][:3]
    again = send_again(topics, recent)
    send_again(topics, known)
    unknown = [trade(BETWEEN - timedelta(minutes=5), f"late-{number}", price=9e9) for number in range(4)]
    topics.send(0, unknown, b"BTC/USDT")
    topics.producer.flush()
    app.start()
    app.wait_for("what came again", lambda found: read_rows(found) == again + len(known) + len(unknown))
    simulate(topics, *market, f"--count={SECOND}", f"--start-time={BETWEEN.isoformat()}Z")
    topics.heartbeats(BETWEEN + timedelta(hours=1))
    after = app.wait_for_watermark(BETWEEN + timedelta(minutes=50))
    status = app.stop()
    return Run(app, topics, (at_once, again), len(known) + len(unknown), before, after, status)


def event_time(value: bytes) -> datetime:
    return datetime.fromisoformat(json.loads(value)["event_time"]).replace(tzinfo=None)


def test_every_row_is_what_duckdb_computes(run: Run) -> None:
    with table_of(run.app, "market_ohlc") as database:
        load_messages(database, run.topics.read(run.topics.events))
        database.execute(f"CREATE TABLE expected AS {EXPECTED}")
        differing = database.execute(
            "SELECT * FROM expected AS e FULL OUTER JOIN found AS f "
            "ON e.window_start = f.window_start AND e.symbol = f.symbol "
            "WHERE (e.open, e.high, e.low, e.close) IS DISTINCT FROM (f.open, f.high, f.low, f.close) "
            "OR e.events IS DISTINCT FROM f.events "
            "OR e.volume IS NULL <> (f.volume IS NULL) OR abs(e.volume / f.volume - 1) > 1e-12 "
            "OR e.vwap IS NULL <> (f.vwap IS NULL) OR abs(e.vwap / f.vwap - 1) > 1e-12 "
            "OR f.window_end <> f.window_start + INTERVAL 1 MINUTE"
        ).fetchall()
        assert differing == []
        rows, keys, events = database.execute(
            "SELECT count(*), count(DISTINCT (window_start, symbol)), sum(events) FROM found"
        ).fetchall()[0]
    assert rows == keys == 3 * 12  # symbols, and minutes: ten, and two for the last 80 s
    assert events == FIRST + SECOND


def test_the_topic_holds_the_same_rows(run: Run) -> None:
    latest = {record.key().decode(): json.loads(record.value()) for record in run.topics.read(run.topics.windows)}
    with table_of(run.app, "market_ohlc") as database:
        cursor = database.execute("FROM found")
        names = [column[0] for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    assert len(rows) == len(latest)
    for row in rows:
        times = {
            name: row[name].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for name in ("window_start", "window_end")
        }
        expected = {name: value for name, value in {**row, **times}.items() if value is not None}
        assert latest[f"{times['window_start']}|{row['symbol']}"] == expected


def test_repeated_late_and_bad_records_are_counted(run: Run) -> None:
    at_once, again = run.repeated
    assert again > 100
    assert total(run.before, "numDroppedDuplicateRows") == at_once
    assert total(run.before, "numRowsDroppedByWatermark") == 0
    # What was learnt before the SIGKILL is in the checkpoint.
    assert total(run.after, "numDroppedDuplicateRows") == again
    assert total(run.after, "numRowsDroppedByWatermark") == run.late
    assert bad_records(run.before) == len(BAD)


def test_bad_records_are_dead_letters_with_their_reason(run: Run) -> None:
    found = letters_of(run.topics)
    assert [partition for partition, _ in found] == [1] * len(BAD)
    for (_, reason), (_, _, expected) in zip(sorted(found.items()), BAD, strict=True):
        assert reason.startswith(expected)


def test_it_ends_well_and_its_checkpoint_is_clean(run: Run) -> None:
    assert run.status == 0
    assert run.after[0]["batchId"] > 0
    assert run.app.messages("ERROR") == []
    assert inspect(str(run.app.checkpoint / "market-ohlc"), local_listing).clean
