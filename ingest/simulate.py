"""Simulated events, market data and air quality: seeded, so that the same settings give the same bytes.

Only `random()` of Python's generator and the four basic operations are used: the sequence of `random()` is
the same in every Python version, that of `choices` or `gauss` need not be.
"""

import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ingest import contracts, kafka
from ingest.errors import BadInputError
from ingest.kafka import ProducerSettings
from ingest.progress import Progress, iso
from ingest.sender import Sender, StopRequest

EVENT_TYPES = (("departed", 0.49), ("arrived", 0.485), ("cancelled", 0.02), ("diverted", 0.005))
AIRPORTS = ("ATL", "BOS", "DEN", "EWR", "JFK", "LAX", "LGA", "MIA", "ORD", "SFO")
CARRIERS = ("AA", "AS", "B6", "DL", "UA", "WN")


@dataclass(frozen=True)
class Instrument:
    """A simulated market: symbol, first price, largest relative step, digits of price and quantity."""

    symbol: str
    price: float
    step: float
    price_digits: int
    quantity_digits: int


INSTRUMENTS = (
    Instrument("BTC/USDT", 60_000.0, 0.0005, 2, 5),
    Instrument("ETH/USD", 3_000.0, 0.0006, 2, 4),
    Instrument("EUR/USD", 1.08, 0.00005, 5, 0),
)


@dataclass(frozen=True)
class Station:
    """A simulated place: its name, and the PM2.5 it returns to, in micrograms per cubic metre."""

    location: str
    pm25: float


# Every partition of the topic air-quality has one of them: a silent one would hold the watermark back.
STATIONS = (
    Station("ring-road", 24.0),
    Station("station-square", 18.0),
    Station("harbour", 14.0),
    Station("airport", 12.0),
    Station("old-town", 9.0),
    Station("university", 7.0),
)


@dataclass(frozen=True)
class SimulationSettings:
    """A sequence of messages: `count` of them (0: until stopped), 1/`rate` seconds of event time apart."""

    seed: int = 1
    rate: float = 100.0  # messages per second
    count: int = 0
    start_time: float = 1_704_067_200.0  # seconds since 1970, UTC: 2024-01-01
    fast: bool = False  # send without waiting for real time; event times stay 1/rate apart
    close_after_minutes: int | None = None  # from the last event to heartbeats that let the last windows close

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1_000_000:
            raise BadInputError(f"the rate must be above 0 and at most 1000000 messages per second, not {self.rate}.")
        if self.count < 0:
            raise BadInputError(f"the count must be 0 (until stopped) or more, not {self.count}.")
        if self.fast and not self.count:
            raise BadInputError("sending without waiting needs an end: give a --count or --seconds too.")
        if self.close_after_minutes is not None:
            if self.close_after_minutes < 0:
                raise BadInputError(
                    f"the minutes until the heartbeats must not be negative: {self.close_after_minutes}."
                )
            if not self.count:
                raise BadInputError("heartbeats close a finite sequence: give a --count or --seconds too.")

    def numbers(self) -> Iterator[int]:
        """Yield the position of each message."""
        return iter(range(self.count)) if self.count else itertools.count()

    def event_time(self, number: int) -> float:
        """Return the event time of the message at a position, in seconds since 1970."""
        return self.start_time + number / self.rate

    def identity(self, number: int) -> str:
        """Return the id of the message at a position: another seed, start or rate gives other ids."""
        return f"simulated/{self.seed}/{iso(self.start_time)}/{self.rate:g}/{number}"


Feed = Callable[[SimulationSettings], Iterator[contracts.Message]]


def events(settings: SimulationSettings) -> Iterator[contracts.Message]:
    """Yield simulated flights as messages of the contract `events v1`."""
    draw = random.Random(settings.seed).random  # noqa: S311 - repeatable on purpose
    for number in settings.numbers():
        event_type = _weighted(draw(), EVENT_TYPES)
        origin, onward = _index(draw(), len(AIRPORTS)), _index(draw(), len(AIRPORTS) - 1)
        delay = _index(draw() * draw(), 181) - 10
        yield {
            "schema_version": 1,
            "event_id": settings.identity(number),
            "event_type": event_type,
            "event_time": iso(settings.event_time(number)),
            "source": "simulated",
            "carrier": CARRIERS[_index(draw(), len(CARRIERS))],
            "flight": 1 + _index(draw(), 9999),
            "tail_number": f"N{100 + _index(draw(), 900)}MR",
            "origin": AIRPORTS[origin],
            "destination": AIRPORTS[(origin + 1 + onward) % len(AIRPORTS)],
            "delay_minutes": delay if event_type in {"departed", "arrived"} else None,
        }


def market(settings: SimulationSettings) -> Iterator[contracts.Message]:
    """Yield simulated trades, each symbol's price a random walk, as messages of `market-data v1`."""
    draw = random.Random(settings.seed).random  # noqa: S311 - repeatable on purpose
    prices = [instrument.price for instrument in INSTRUMENTS]
    for number in settings.numbers():
        which = _index(draw(), len(INSTRUMENTS))
        instrument = INSTRUMENTS[which]
        prices[which] *= 1 + instrument.step * (2 * draw() - 1)
        quantity = draw() * draw()
        yield {
            "schema_version": 1,
            "event_id": settings.identity(number),
            "event_type": "trade",
            "event_time": iso(settings.event_time(number)),
            "source": "simulated",
            "symbol": instrument.symbol,
            "price": round(prices[which], instrument.price_digits),
            "quantity": round(quantity * 2, instrument.quantity_digits) if instrument.quantity_digits else None,
            "side": "buy" if draw() < 0.5 else "sell",
        }


def air_quality(settings: SimulationSettings) -> Iterator[contracts.Message]:
    """Yield simulated readings, of one station after the other, as messages of `air-quality v1`.

    PM2.5 wavers about a station's own value, now and then about a multiple of it for some tens of readings. One reading
    in a hundred lacks its humidity.
    """
    draw = random.Random(settings.seed).random  # noqa: S311 - repeatable on purpose
    levels = [station.pm25 for station in STATIONS]
    targets = list(levels)
    climates = [(12.0, 60.0)] * len(STATIONS)
    for number in settings.numbers():
        which = number % len(STATIONS)
        usual, change, (temperature, humidity) = STATIONS[which].pm25, draw(), climates[which]
        if change < 0.02:
            targets[which] = usual * (2 + 150 * change) if change < 0.006 else usual
        levels[which] = max(0.5, levels[which] + 0.1 * (targets[which] - levels[which]) + 0.1 * usual * (draw() - 0.5))
        temperature += 0.02 * (12 - temperature) + 0.4 * (draw() - 0.5)
        humidity = min(100.0, max(0.0, humidity + 0.02 * (60 - humidity) + 2 * (draw() - 0.5)))
        climates[which] = (temperature, humidity)
        yield {
            "schema_version": 1,
            "event_id": settings.identity(number),
            "event_type": "reading",
            "event_time": iso(settings.event_time(number)),
            "source": "simulated",
            "location": STATIONS[which].location,
            "pm25": round(levels[which], 1),
            "pm10": round(levels[which] * (1.3 + 0.6 * draw()), 1),
            "temperature": round(temperature, 1),
            "humidity": round(humidity, 1) if draw() >= 0.01 else None,
        }


def simulate(
    feed: Feed,
    contract: contracts.Contract,
    topic: str,
    settings: SimulationSettings,
    *,
    producer: ProducerSettings,
    stop: StopRequest,
    progress: Progress,
) -> dict[str, Any]:
    """Send a feed's messages at their rate, and return the summary (`state`: `complete` or `stopped`).

    With `close_after_minutes` one heartbeat per partition follows the messages, and the summary has `heartbeat_time`
    and the topic's `end_offsets` too. Raises BadInputError if the topic doesn't exist, IngestError if Kafka fails.
    """
    partitions = kafka.partition_count(producer, topic)
    sender = Sender(producer, topic, stop, progress)
    progress.start()
    began = time.monotonic()
    for number, message in enumerate(feed(settings)):
        if not settings.fast and not sender.wait_until(began + number / settings.rate):
            break
        key = contract.key(message)
        if not sender.send(kafka.partition_of(key, partitions), key, contract.encode(message)):
            break
        progress.event_time = settings.event_time(number)
    last = progress.event_time
    complete = sender.flush() and not stop
    closing: dict[str, Any] = {}
    if complete and settings.close_after_minutes is not None:
        heartbeat_time = last + settings.close_after_minutes * 60
        complete = _send_heartbeats(sender, contract, settings, heartbeat_time, partitions)
        with kafka.lookup(producer) as consumer:
            ends = kafka.end_offsets(consumer, topic, partitions)
        closing = {"heartbeat_time": iso(heartbeat_time), "end_offsets": ends}
    progress.report()
    return {
        "state": "complete" if complete else "stopped",
        "seed": settings.seed,
        "sent": progress.sent,
        "seconds": progress.seconds,
        "last_event_time": iso(last),
        **closing,
    }


def _send_heartbeats(
    sender: Sender, contract: contracts.Contract, settings: SimulationSettings, event_time: float, partitions: int
) -> bool:
    """Send each partition a heartbeat, after all messages; return False if a stop came before all were delivered."""
    for partition in range(partitions):
        message = {
            "schema_version": contract.version,
            "event_id": f"heartbeat/{settings.identity(settings.count)}/{partition}",
            "event_type": "heartbeat",
            "event_time": iso(event_time),
            "source": "simulated",
        }
        if not sender.send(partition, contract.key(message), contract.encode(message)):
            return False
    return sender.flush()


def _index(draw: float, size: int) -> int:
    return int(draw * size)


def _weighted(draw: float, weights: tuple[tuple[str, float], ...]) -> str:
    for value, weight in weights:
        draw -= weight
        if draw < 0:
            return value
    return weights[-1][0]
