"""The shipped manifest and settings of event-windows."""

from pathlib import Path

import yaml

from streamkit.contracts import load_contract
from streamkit.session import spark_conf
from streamkit.settings import load_settings
from tests.charts.render import by_name, render_chart

REPOSITORY = Path(__file__).parents[3]
APP = REPOSITORY / "spark-apps/event-windows"
ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "s3a://bucket"}
MANIFEST = yaml.safe_load((APP / "application.yaml").read_text())


def test_the_manifest_names_files_that_are_there():
    spec = MANIFEST["spec"]
    arguments = spec["arguments"]
    for path in (spec["mainApplicationFile"], arguments[arguments.index("--settings") + 1]):
        assert path.startswith("local:///opt/millrace/")
        assert (REPOSITORY / path.removeprefix("local:///opt/millrace/")).is_file()


def test_the_manifest_gives_every_variable_that_the_settings_need():
    driver = MANIFEST["spec"]["driver"]
    assert driver["envFrom"] == [{"configMapRef": {"name": "millrace"}}]
    maps = by_name([each for each in render_chart() if each["metadata"].get("namespace") == "streams"], "ConfigMap")
    assert set(ENVIRONMENT) <= {item["name"] for item in driver["env"]} | set(maps["millrace"]["data"])


def test_the_settings_are_those_promised():
    settings = load_settings(APP / "settings.yaml", environment=ENVIRONMENT)
    assert settings.window and settings.watermark and settings.sinks.delta
    assert settings.trigger == "1 second"
    assert settings.source.max_offsets_per_trigger == 100_000
    assert settings.source.min_partitions == 10
    assert settings.min_batches_to_retain == 100
    assert (settings.window.length, settings.window.slide) == ("5 minutes", "1 minute")
    assert (settings.watermark.delay, settings.watermark.scope) == ("2 minutes", "partition")
    assert settings.output_mode == "append"
    assert settings.checkpoint("event-windows") == "s3a://bucket/checkpoints/event-windows/event-windows"
    assert settings.sinks.delta.path == "s3a://bucket/tables/event_windows"
    conf = spark_conf(settings)
    assert conf["spark.sql.streaming.stateStore.providerClass"].endswith("RocksDBStateStoreProvider")
    assert conf["spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled"] == "true"


def test_the_contract_and_the_topics_are_in_the_repository():
    settings = load_settings(APP / "settings.yaml", environment=ENVIRONMENT)
    assert settings.sinks.kafka and settings.dead_letter
    assert load_contract(settings.source.contract).topic == settings.source.topic
    topics = yaml.safe_load((REPOSITORY / "contracts/topics.yaml").read_text())["topics"]
    assert {settings.source.topic, settings.sinks.kafka.topic, settings.dead_letter.topic} <= set(topics)
