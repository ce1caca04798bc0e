"""The alerts of air-quality on a static frame, and its shipped settings."""

import importlib.util
import json
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from ingest import contracts
from streamkit.contracts import load_contract
from streamkit.settings import load_settings
from streamkit.sinks import as_kafka_records

REPOSITORY = Path(__file__).parents[3]
APP = REPOSITORY / "spark-apps/air-quality"
ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "s3a://bucket"}
START = datetime(2024, 1, 1, 7, 58)
MEANS = (
    "window_start timestamp, window_end timestamp, location string, readings long, "
    "avg_pm25 double, avg_pm10 double, avg_temperature double, avg_humidity double"
)


@pytest.fixture(scope="module")
def app() -> ModuleType:
    spec = importlib.util.spec_from_file_location("air_quality_app", APP / "app.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mean(location: str, pm25: float | None) -> tuple:
    return (START, START + timedelta(minutes=5), location, 7, pm25, 50.0, 20.0, None)


def test_only_a_mean_above_the_limit_is_an_alert(spark, app):
    means = [mean("below", 35.3), mean("at", 35.4), mean("above", 35.5), mean("unknown", None)]
    found = app.alerts(spark.createDataFrame(means, MEANS), 35.4).collect()
    assert [row.location for row in found] == ["above"]
    assert [row.location for row in app.alerts(spark.createDataFrame(means, MEANS), 35.35).collect()] == ["at", "above"]


def test_an_alert_keeps_its_contract_and_its_key_is_its_id(spark, app):
    rows = app.alerts(spark.createDataFrame([mean("ring-road", 61.25)], MEANS), 35.4)
    (record,) = as_kafka_records(rows, app.ALERT_KEY).collect()
    message = json.loads(record.value)
    contract = contracts.load("air-quality-alerts")
    contract.check(message)
    assert record.key.encode() == contract.key(message) == b"pm25/ring-road/2024-01-01T07:58:00Z"
    assert (message["event_time"], message["pm25"], message["limit"]) == ("2024-01-01T08:03:00Z", 61.25, 35.4)
    assert message["readings"] == 7


def test_the_settings_are_those_promised():
    settings = load_settings(APP / "settings.yaml", environment=ENVIRONMENT)
    assert settings.window and settings.watermark and settings.sinks.delta
    assert (settings.window.length, settings.window.slide) == ("5 minutes", "1 minute")
    assert (settings.watermark.delay, settings.watermark.scope) == ("10 minutes", "partition")
    assert settings.parameters == {"pm25_limit": "35.4"}
    assert settings.sinks.delta.path == "s3a://bucket/tables/air_quality"


def test_the_contract_and_the_topics_are_in_the_repository():
    settings = load_settings(APP / "settings.yaml", environment=ENVIRONMENT)
    assert settings.sinks.kafka and settings.dead_letter
    assert load_contract(settings.source.contract).topic == settings.source.topic
    topics = yaml.safe_load((REPOSITORY / "contracts/topics.yaml").read_text())["topics"]
    assert {settings.source.topic, settings.sinks.kafka.topic, settings.dead_letter.topic} <= set(topics)
