"""The settings file: what it may hold, and what is said of what it may not."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded.paths import REPOSITORY
from ingest.errors import BadInputError
from ingest.feeds import DEFAULT_FILE, settings, start
from ingest.feeds.breaker import RetrySettings
from ingest.feeds.http import HttpSettings
from ingest.feeds.rest import PagingSettings, RestSettings
from ingest.feeds.settings import FeedSettings
from ingest.feeds.trades import RefillSettings, StreamSettings
from ingest.feeds.websocket import WebSocketSettings
from ingest.progress import Metrics
from ingest.simulate import SimulationSettings

STREAM: dict[str, Any] = {
    "kind": "binance-trades", "topic": "market-data", "symbol": "BTC/USDT", "product": "BTCUSDT",
    "websocket": {"url": "ws://127.0.0.1:1/ws"},
}  # fmt: skip
REST: dict[str, Any] = {
    "kind": "rest", "topic": "market-data", "url": "http://127.0.0.1:1", "interval_seconds": 1,
    "fields": {
        "event_id": {"path": "id"}, "event_type": {"value": "rate"}, "event_time": {"path": "at", "as": "time"},
        "source": {"value": "x"}, "symbol": {"value": "A/B"}, "price": {"path": "p", "as": "number"},
    },
}  # fmt: skip


def written(folder: Path, **feeds: Any) -> Path:
    path = folder / "feeds.yaml"
    path.write_text(yaml.safe_dump({"feeds": feeds}))
    return path


def test_the_shipped_file_is_valid_and_names_the_promised_feeds():
    feeds = {each.name: each for each in settings.load_all(DEFAULT_FILE, {})}
    assert list(feeds) == ["binance-btc-usdt", "coinbase-eth-usd", "eur-usd", "market-simulator"]
    for each in feeds.values():
        assert each.topic == "market-data"
        assert each.dead_letter_topic == "market-data-dead-letter"
        start.build(each, start.report_for(each, Metrics()))
        assert each.description in start.listing(DEFAULT_FILE)
    assert [name for name, each in feeds.items() if each.quiet] == ["eur-usd"]
    binance, coinbase = feeds["binance-btc-usdt"].source, feeds["coinbase-eth-usd"].source
    assert isinstance(binance, StreamSettings)
    assert binance.websocket.url == "wss://stream.binance.com:9443/ws"
    assert binance.websocket.renew_after_seconds < 24 * 3600
    assert isinstance(coinbase, StreamSettings)
    assert coinbase.websocket.url == "wss://ws-feed.exchange.coinbase.com"


def test_the_example_of_the_documentation_is_valid(tmp_path):
    page = (REPOSITORY / "docs" / "feeds.md").read_text()
    (example,) = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "kind: rest" in block]
    path = tmp_path / "feeds.yaml"
    path.write_text(example)
    (feed,) = settings.load_all(path, {"MY_SOURCE_TOKEN": "x"})
    start.build(feed, start.report_for(feed, Metrics()))


def test_the_schema_describes_each_setting_of_the_code_and_no_other():
    schema = json.loads((Path(settings.__file__).with_name("schema.json")).read_text())
    not_of_a_feed = {"count", "fast", "close_after_minutes"}
    groups = {
        (): (FeedSettings, schema["x-groups"]["common"], {"name", "where", "source"}),
        ("stream",): (StreamSettings, schema["x-groups"]["stream"], set()),
        ("rest",): (RestSettings, schema["x-groups"]["rest"], set()),
        ("simulated-market",): (
            SimulationSettings,
            schema["x-groups"]["simulated-market"],
            not_of_a_feed,
        ),
        ("retry",): (RetrySettings, schema["$defs"]["retry"]["properties"], set()),
        ("websocket",): (WebSocketSettings, schema["$defs"]["websocket"]["properties"], set()),
        ("refill",): (RefillSettings, schema["$defs"]["refill"]["properties"], set()),
        ("http",): (HttpSettings, schema["$defs"]["http"]["properties"], set()),
        ("paging",): (PagingSettings, schema["$defs"]["paging"]["properties"], set()),
    }
    for kind, described, others in groups.values():
        assert {field.name for field in dataclasses.fields(kind)} - others == set(described)
        for name, each in described.items():
            assert "description" in each or "$ref" in each, name


def test_defaults_of_the_schema_are_those_of_the_code():
    schema = json.loads((Path(settings.__file__).with_name("schema.json")).read_text())
    for kind, group in ((RetrySettings, "retry"), (WebSocketSettings, "websocket"), (HttpSettings, "http")):
        for field in dataclasses.fields(kind):
            if isinstance(field.default, int | float):
                assert f"{field.default:g}" in schema["$defs"][group]["properties"][field.name]["description"].replace(
                    "8388608", f"{8388608:g}"
                ), field.name


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({**STREAM, "kind": "carrier-pigeon"}, "feeds.x.kind: "),
        ({**STREAM, "colour": "red"}, "feeds.x: Additional properties are not allowed ('colour' was unexpected)"),
        ({**STREAM, "symbol": "bitcoin"}, "feeds.x.symbol: "),
        ({**STREAM, "websocket": {"url": "http://a"}}, "feeds.x.websocket.url: "),
        ({**STREAM, "websocket": {"url": "ws://a", "silence_seconds": 0}}, "feeds.x.websocket.silence_seconds: 0 is"),
        ({name: value for name, value in STREAM.items() if name != "topic"}, 'feeds.x: "topic" is a required property'),
        ({**STREAM, "retry": {"breaker_failures": 0}}, "feeds.x.retry.breaker_failures: 0 is less than"),
        ({**STREAM, "retry": {"breaker_failures": 1.5}}, "feeds.x.retry.breaker_failures: 1.5 is not"),
        ({**STREAM, "refill": {"max_trades": "all"}}, "feeds.x.refill.max_trades: "),
        ({**STREAM, "contract": "events"}, "feeds.x.contract: binance-trades sends market-data, not events"),
        ({**STREAM, "contract": "nothing"}, "no contract nothing v1"),
        ({**REST, "fields": {}}, "feeds.x.fields: "),
        ({**REST, "fields": {**REST["fields"], "price": {"path": "p", "as": "money"}}}, "feeds.x.fields.price.as: "),
        ({**REST, "fields": {**REST["fields"], "cost": {"value": 1}}}, "feeds.x.fields.cost: "),
        ({**REST, "items": "a["}, "feeds.x.items: "),
        ({**REST, "paging": {"kind": "cursor"}}, "feeds.x.paging.cursor: "),
        (
            {**REST, "http": {"headers": {"X-Key": "${NO_SUCH}"}}},
            "headers.X-Key: needs the environment variable NO_SUCH",
        ),
        ({"kind": "simulated-market", "topic": "market-data", "rate": 0}, "feeds.x.rate: 0 is less"),
        ({"kind": "simulated-market", "topic": "market-data", "rate": 1, "start_time": "noon"}, "feeds.x.start_time: "),
    ],
)
def test_a_mistake_is_one_sentence_with_file_and_key(tmp_path, feed, words):
    path = written(tmp_path, x=feed)
    with pytest.raises(BadInputError) as caught:
        start.listing(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    if "no contract" not in words:
        assert str(caught.value).startswith(f"{path}: feeds.x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("feeds: [", "isn't YAML"),
        ("", "is not of type"),
        ("feeds: {}\nmore: 1", "'more' was unexpected"),
        ("feeds: {x: {}}", 'feeds.x: "kind" is a required property'),
        ("feeds: {x: 3}", "feeds.x: 3 is not of type"),
        ("feeds: {x: {kind: rest, 3: 4}}", "feeds.x: "),
        ("feeds: {X Y: {kind: rest}}", "X Y"),
    ],
)
def test_a_file_that_is_none_is_one_sentence(tmp_path, text, words):
    path = tmp_path / "feeds.yaml"
    path.write_text(text)
    with pytest.raises(BadInputError) as caught:
        settings.load_all(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(BadInputError, match="can't be read"):
        settings.load_all(tmp_path / "nowhere.yaml")


def test_an_instant_needs_no_quotes(tmp_path):
    path = tmp_path / "feeds.yaml"
    simulated = "kind: simulated-market, topic: market-data, rate: 1"
    path.write_text(f"feeds: {{x: {{{simulated}, start_time: 2024-01-01T00:00:00Z}}}}")
    for found in (settings.load(path, "x"), settings.load(path, "x", ["start_time=2024-01-01"])):
        assert isinstance(found.source, SimulationSettings)
        assert found.source.start_time == 1_704_067_200.0


def test_one_setting_can_be_overridden_and_the_topic_leaves_the_contract(tmp_path):
    path = written(tmp_path, x=STREAM)
    found = settings.load(path, "x", ["retry.breaker_failures=9", "websocket.url=ws://b"], "other")
    assert found.retry.breaker_failures == 9
    assert isinstance(found.source, StreamSettings)
    assert found.source.websocket.url == "ws://b"
    assert (found.topic, found.contract, found.dead_letter_topic) == ("other", "market-data", "other-dead-letter")
    for assignment in ("retry", "retry.breaker_failures", "=3", "symbol.x=3", "symbol=[", "retry.x=3"):
        with pytest.raises(BadInputError):
            settings.load(path, "x", [assignment])
    with pytest.raises(BadInputError, match="there is no feed y: it has x"):
        settings.load(path, "y")


def test_variables_come_from_the_environment_and_dont_show(tmp_path):
    feed = {**REST, "url": "${BASE:-http://127.0.0.1:1}/a", "http": {"headers": {"X-Key": "${MY_KEY}"}}}
    path = written(tmp_path, x=feed)
    found = settings.load(path, "x", environment={"MY_KEY": "geheim"})
    assert isinstance(found.source, RestSettings)
    assert found.source.url == "http://127.0.0.1:1/a"
    assert found.source.http.headers == {"X-Key": "geheim"}
    assert "geheim" not in repr(found)
