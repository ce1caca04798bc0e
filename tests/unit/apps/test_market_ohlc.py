"""The shipped settings of market-ohlc; what it computes has its tests in tests/unit/streamkit."""

from pathlib import Path

import yaml

from streamkit.contracts import load_contract
from streamkit.settings import load_settings

REPOSITORY = Path(__file__).parents[3]
APP = REPOSITORY / "spark-apps/market-ohlc"
ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "s3a://bucket"}


def test_the_settings_are_those_promised():
    settings = load_settings(APP / "settings.yaml", environment=ENVIRONMENT)
    assert settings.window and settings.watermark and settings.sinks.delta
    assert (settings.window.length, settings.window.slide) == ("1 minute", "1 minute")
    assert (settings.watermark.delay, settings.watermark.scope) == ("2 minutes", "topic")
    assert settings.output_mode == "append"
    assert settings.sinks.delta.path == "s3a://bucket/tables/market_ohlc"


def test_the_contract_and_the_topics_are_in_the_repository():
    settings = load_settings(APP / "settings.yaml", environment=ENVIRONMENT)
    assert settings.sinks.kafka and settings.dead_letter
    assert load_contract(settings.source.contract).topic == settings.source.topic
    topics = yaml.safe_load((REPOSITORY / "contracts/topics.yaml").read_text())["topics"]
    assert {settings.source.topic, settings.sinks.kafka.topic, settings.dead_letter.topic} <= set(topics)
