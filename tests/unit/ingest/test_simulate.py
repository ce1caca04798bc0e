"""Simulated messages: repeatable to the byte, and within their contracts."""

import hashlib
import itertools
from collections import Counter

import pytest
import yaml

from ingest import contracts, simulate
from ingest.errors import BadInputError
from ingest.kafka import partition_of
from ingest.simulate import SimulationSettings

FEEDS = [
    (simulate.events, "events"),
    (simulate.market, "market-data"),
    (simulate.air_quality, "air-quality"),
]


def encoded(feed, topic: str, **settings) -> list[bytes]:
    contract = contracts.load(topic)
    return [contract.encode(message) for message in feed(SimulationSettings(**settings))]


@pytest.mark.parametrize(("feed", "topic"), FEEDS)
def test_the_same_settings_give_the_same_bytes_and_another_seed_others(feed, topic):
    first = encoded(feed, topic, seed=7, count=500)
    assert first == encoded(feed, topic, seed=7, count=500)
    assert first[:100] == encoded(feed, topic, seed=7, count=100)
    assert not set(first) & set(encoded(feed, topic, seed=8, count=500))


@pytest.mark.parametrize(
    ("feed", "topic", "digest"),
    [
        (*FEEDS[0], "1ba20ad74dff8faf8402367481c5a4c0265d1ce9fe3d3e7af5085743e4392770"),
        (*FEEDS[1], "981604cc6c01ce15f2a66076e0fe2130a641c9d092bcd3cd9ef62782d5787f98"),
        (*FEEDS[2], "40ed6a9531d11edd81f31d833d4471f415993eac38cc03798e6658074dddfe97"),
    ],
)
def test_the_bytes_stay_what_they_were(feed, topic, digest):
    """Whoever changes the generator changes everybody's recorded runs: then this value changes knowingly."""
    value = b"\n".join(encoded(feed, topic, seed=1, count=1000))
    assert hashlib.sha256(value).hexdigest() == digest


def test_event_times_are_one_step_apart():
    settings = SimulationSettings(rate=8.0, count=3, start_time=1_704_067_200.0)
    times = [message["event_time"] for message in simulate.events(settings)]
    assert times == ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.125Z", "2024-01-01T00:00:00.250Z"]


def test_events_are_mixed_as_said_and_ids_unique():
    messages = list(simulate.events(SimulationSettings(seed=3, count=20_000)))
    counts = Counter(message["event_type"] for message in messages)
    for event_type, weight in simulate.EVENT_TYPES:
        assert counts[event_type] / len(messages) == pytest.approx(weight, abs=0.02)
    assert len({message["event_id"] for message in messages}) == len(messages)
    assert all(message["origin"] != message["destination"] for message in messages)


def test_prices_walk_without_jumps():
    messages = list(simulate.market(SimulationSettings(seed=3, count=3_000)))
    for instrument in simulate.INSTRUMENTS:
        prices = [message["price"] for message in messages if message["symbol"] == instrument.symbol]
        assert len(set(prices)) > 50
        largest = max(abs(b / a - 1) for a, b in itertools.pairwise(prices))
        assert largest <= instrument.step + 2 * 10.0**-instrument.price_digits / min(prices)


def test_the_air_is_bad_now_and_then_and_every_partition_has_a_station():
    topics = yaml.safe_load((contracts.contracts_root() / "topics.yaml").read_text())["topics"]
    messages = list(simulate.air_quality(SimulationSettings(seed=3, rate=0.6, count=12_960)))
    by_place: dict[str, list[float]] = {station.location: [] for station in simulate.STATIONS}
    for message in messages:
        by_place[message["location"]].append(message["pm25"])
    assert {len(values) for values in by_place.values()} == {12_960 // len(simulate.STATIONS)}
    assert 0.01 < sum(message["pm25"] > 35.4 for message in messages) / len(messages) < 0.5
    assert max(by_place["university"]) < max(by_place["ring-road"])
    assert 50 < sum(message["humidity"] is None for message in messages) < 250
    partitions = topics["air-quality"]["partitions"]
    assert {partition_of(place.encode(), partitions) for place in by_place} == set(range(partitions))


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0},
        {"rate": -1},
        {"rate": 1e9},
        {"count": -1},
        {"fast": True},
        {"close_after_minutes": 5},
        {"close_after_minutes": -1, "count": 1},
    ],
)
def test_bad_settings_are_refused(change):
    with pytest.raises(BadInputError):
        SimulationSettings(**change)
