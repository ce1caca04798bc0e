"""Trades that a test makes up, in the topic `market-data`. Also runs in a pod of the image `ingest`, without tests."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from confluent_kafka import Producer

from ingest import contracts


def send_trades(config: dict[str, Any], start: datetime, seconds: Iterable[int]) -> list[str]:
    """Send a trade for each of these seconds after a start, as of when it happened; return what went wrong.

    Args:
        config: librdkafka's settings.
        start: in UTC.
        seconds: a second that comes twice is the same event twice.
    """
    failed: list[str] = []
    # As feeds do. A batch as large as librdkafka makes them is more than the topic takes, unless it is compressed.
    producer = Producer({**config, "compression.type": "zstd"})
    for number in seconds:
        at = start + timedelta(seconds=number)
        message = {
            "schema_version": 1,
            "event_id": f"{start:%Y-%m-%dT%H:%M}/{number}",
            "event_type": "trade",
            "event_time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "source": "binance",
            "symbol": "BTC/USDT",
            "price": 100.0 + number % 300,
            "quantity": 2.0,
            "side": "buy",
        }
        value = contracts.load("market-data").encode(message)
        producer.produce(
            "market-data",
            value,
            "BTC/USDT",
            timestamp=int(at.timestamp() * 1000),
            on_delivery=lambda error, _: failed.append(error.str()) if error else None,
        )
    if left := producer.flush(30):
        failed.append(f"{left} were not sent in time")
    return failed
