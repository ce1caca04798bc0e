"""Open, high, low, close, volume and VWAP of each symbol, by the minute: each event once, however often it is sent."""

from collections.abc import Sequence

from pyspark.sql import SparkSession
from pyspark.sql.streaming import DataStreamWriter

from streamkit.contracts import Contract
from streamkit.dead_letter import DeadLetters, observe_invalid
from streamkit.lifecycle import main
from streamkit.settings import AppSettings
from streamkit.sinks import to_sinks
from streamkit.source import deduplicate, read_events
from streamkit.windows import OHLC_KEYS, ohlc

QUERY = "market-ohlc"
COLUMNS = ("event_id", "symbol", "price", "quantity")


def build(spark: SparkSession, settings: AppSettings, contract: Contract) -> Sequence[DataStreamWriter]:
    """Return the app's one query, ready to be started."""
    prices = read_events(spark, settings, contract, COLUMNS, watch=observe_invalid, query=QUERY)
    candles = ohlc(deduplicate(prices, contract), settings.window, contract.event_time)
    letters = DeadLetters(spark, settings, contract, QUERY) if settings.dead_letter else None
    return [to_sinks(candles, settings, QUERY, OHLC_KEYS, letters)]


if __name__ == "__main__":
    main(build)
