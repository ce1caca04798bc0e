"""adults: who is kept, what is counted, its settings."""

import json
from pathlib import Path

import pytest
import yaml

from ingest.lists import people
from streamkit.contracts import load_contract
from streamkit.counting import row_counts
from streamkit.dead_letter import observed_metrics
from streamkit.settings import SettingsError, load_settings
from streamkit.source import as_messages, checked
from tests.unit.streamkit.records import frame

REPOSITORY = Path(__file__).parents[3]
APP = REPOSITORY / "spark-apps/adults"
ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "s3a://bucket"}


def settings(*overrides: str):
    return load_settings(APP / "settings.yaml", overrides, ENVIRONMENT)


def messages(spark, *values: bytes):
    contract = load_contract(REPOSITORY / "contracts/input-topic")
    records = frame(spark, [(b"k", value) for value in values])
    return as_messages(checked(records, contract), contract, ["event_id", "name", "age"])


def encoded(further: str = "") -> list[bytes]:
    return [json.dumps(person).encode() for person in people(further)]


def test_alice_charlie_and_eve_are_kept_and_the_others_counted(app, spark):
    rows = app("adults").of_age(messages(spark, *encoded("Frank=18,Grace=0")), 18)
    assert [(row.name, row.age) for row in rows.collect()] == [
        ("Alice", 25), ("Charlie", 30), ("Eve", 22), ("Frank", 18),
    ]  # fmt: skip
    assert rows.columns == ["event_time", "event_id", "name", "age"]
    assert row_counts(observed_metrics(rows._jdf.queryExecution())) == {"kept": 4, "dropped": 3}


@pytest.mark.parametrize(
    "change", [{"age": "25"}, {"age": -1}, {"age": 151}, {"age": 25.5}, {"name": ""}, {"name": None}]
)
def test_what_breaks_the_contract_is_neither_kept_nor_dropped(app, spark, change):
    person = {**next(people()), **change}
    rows = app("adults").of_age(messages(spark, json.dumps(person).encode(), encoded()[1]), 18)
    assert rows.collect() == []
    assert row_counts(observed_metrics(rows._jdf.queryExecution())) == {"kept": 0, "dropped": 1}


def test_the_settings_are_those_promised_and_the_topics_are_there():
    found = settings()
    assert found.parameters == {"minimum_age": "18"}
    assert (found.window, found.watermark, found.sinks.delta) == (None, None, None)
    assert found.sinks.kafka and found.dead_letter
    assert load_contract(found.source.contract).topic == found.source.topic
    topics = yaml.safe_load((REPOSITORY / "contracts/topics.yaml").read_text())["topics"]
    assert {found.source.topic, found.sinks.kafka.topic, found.dead_letter.topic} <= set(topics)


@pytest.mark.parametrize("value", ["-1", "151", "old", "''"])
def test_a_bad_minimum_age_is_one_sentence(app, value):
    with pytest.raises(SettingsError, match=r"parameters.minimum_age"):
        app("adults").build(None, settings(f"parameters.minimum_age={value}"), None)
