from pathlib import Path

import pytest

from streamkit.settings import SettingsError, load_settings, parse_arguments

ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "file:///data"}
MINIMAL = """
application: counter
source: {topic: events, contract: contracts/events}
watermark: {delay: 2 minutes}
window: {length: 5 minutes, slide: 1 minute}
sinks: {kafka: {topic: counts}}
"""


def load(tmp_path: Path, text: str = MINIMAL, *overrides: str, environment=ENVIRONMENT):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return load_settings(path, overrides, environment)


def test_defaults_and_environment_fill_what_is_not_given(tmp_path):
    settings = load(tmp_path)
    assert settings.source.bootstrap_servers == "broker:9092"
    assert settings.sinks.kafka.bootstrap_servers == "broker:9092"
    assert settings.source.max_offsets_per_trigger == 100_000
    assert settings.source.contract == str(tmp_path / "contracts/events")
    assert settings.watermark.scope == "partition"
    assert settings.output_mode == "append"
    assert settings.checkpoint("counts") == "file:///data/checkpoints/counter/counts"
    assert settings.stop_file == "file:///data/control/counter/stop"


def test_overrides_reach_any_depth_and_keep_dots_of_option_names(tmp_path):
    settings = load(
        tmp_path,
        MINIMAL,
        "source.max_offsets_per_trigger=500",
        "output_mode=update",
        "spark_conf.spark.sql.shuffle.partitions=3",
        "spark_conf.spark.ui.enabled=false",
        "source.options.kafka.security.protocol=SSL",
        "sinks.delta.path=file:///t",
        "sinks.kafka=null",
        "dead_letter.topic=bad",
    )
    assert settings.source.max_offsets_per_trigger == 500
    assert settings.output_mode == "update"
    assert settings.spark_conf == {"spark.sql.shuffle.partitions": "3", "spark.ui.enabled": "false"}
    assert settings.source.options == {"kafka.security.protocol": "SSL"}
    assert settings.sinks.delta.path == "file:///t"
    assert settings.sinks.kafka is None
    assert settings.dead_letter.topic == "bad"


def test_a_variable_may_have_a_default(tmp_path):
    text = MINIMAL + "checkpoint_base: ${WHERE:-file:///fallback}/checkpoints\n"
    assert load(tmp_path, text).checkpoint_base == "file:///fallback/checkpoints"
    assert (
        load(tmp_path, text, environment={**ENVIRONMENT, "WHERE": "s3a://b"}).checkpoint_base == "s3a://b/checkpoints"
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sourc.topic=x", ["sourc", "no such setting", "source"]),
        ("source.topick=x", ["source: topick", "no such setting"]),
        ("source.max_offsets_per_trigger=many", ["source: max_offsets_per_trigger", "'many'", "a whole number"]),
        ("source.max_offsets_per_trigger=0", ["source: max_offsets_per_trigger", "1 or more"]),
        ("source.max_offsets_per_trigger=true", ["a whole number"]),
        ("trigger=soon", ["trigger", "'soon'", "`1 second`"]),
        ("watermark.delay=0 seconds", ["watermark: delay", "above zero"]),
        ("watermark.scope=planet", ["watermark: scope", "partition, topic"]),
        ("output_mode=upsert", ["output_mode", "append, update, complete"]),
        ("state_store.changelog=maybe", ["state_store: changelog", "true or false"]),
        ("window=5 minutes", ["window", "expected a group"]),
        ("spark_conf=fast", ["spark_conf", "`name: value`"]),
        ("sinks.kafka=null", ["sinks", "none is given"]),
        ("watermark=null", ["append needs a watermark"]),
        ("mode=real-time", ["real-time", "stateless"]),
        ("sinks.clickhouse={table: t}", ["sinks: clickhouse: url: is missing"]),
        ("sinks.clickhouse={url: 'ch:8123', table: t}", ["sinks: clickhouse: url", "'ch:8123'", "https://"]),
        ("sinks.clickhouse={url: 'http://u:p@ch', table: t}", ["holds a user", "CLICKHOUSE_PASSWORD"]),
        (
            "sinks.clickhouse={url: 'http://ch', table: t, password: p}",
            ["clickhouse: password", "environment only", "set CLICKHOUSE_PASSWORD"],
        ),
        ("sinks.clickhouse={url: 'http://ch', table: t, retries: 0}", ["retries", "1 or more"]),
        ("sinks.opensearch={url: 'http://os'}", ["sinks: opensearch: index: is missing"]),
        ("sinks.opensearch={url: 'http://os', index: i, id_columns: k}", ["id_columns", "expected a list"]),
        ("sinks.opensearch={url: 'http://os', index: i, id_columns: [[k]]}", ["id_columns", "expected text"]),
        ("trigger", ["--set trigger", "key.path=value"]),
        ("trigger={", ["--set trigger={", "not YAML"]),
        ("application.name=x", ["application is not a group"]),
    ],
)
def test_a_bad_setting_is_one_clear_line(tmp_path, override, words):
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, MINIMAL, override)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_real_time_app_writes_to_kafka_only(tmp_path):
    text = "application: f\nmode: real-time\nsource: {topic: a, contract: c}\nsinks: {kafka: {topic: b}}\n"
    assert load(tmp_path, text).mode == "real-time"
    with pytest.raises(SettingsError, match="Kafka only"):
        load(tmp_path, text, "sinks.delta.path=x")


def test_sinks_by_http_take_their_secrets_from_the_environment(tmp_path):
    sinks = ("sinks.clickhouse={url: 'https://ch:8443', table: t}", "sinks.opensearch={url: 'https://os', index: i}")
    secrets = {"CLICKHOUSE_USERNAME": "c", "CLICKHOUSE_PASSWORD": "hidden", "OPENSEARCH_PASSWORD": "hidden"}
    loaded = load(tmp_path, MINIMAL, *sinks, environment={**ENVIRONMENT, **secrets}).sinks
    assert (loaded.clickhouse.username, loaded.clickhouse.password) == ("c", "hidden")
    assert (loaded.opensearch.username, loaded.opensearch.password) == ("", "hidden")
    assert "hidden" not in repr(loaded)
    assert loaded.names == ["kafka", "clickhouse", "opensearch"]
    ids = load(tmp_path, MINIMAL, sinks[1], "sinks.opensearch.id_columns=[a, b]").sinks.opensearch.id_columns
    assert ids == ("a", "b")


def test_rows_that_are_replaced_need_a_version_in_clickhouse(tmp_path):
    sink = "sinks.clickhouse={url: 'http://ch', table: t}"
    with pytest.raises(SettingsError, match="update replaces rows.*version_column"):
        load(tmp_path, MINIMAL, sink, "output_mode=update")
    assert load(tmp_path, MINIMAL, sink, "output_mode=update", "sinks.clickhouse.version_column=batch")


def test_a_missing_variable_key_or_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="environment variable KAFKA_BOOTSTRAP_SERVERS, which is not set"):
        load(tmp_path, environment={"MILLRACE_STORAGE": "x"})
    with pytest.raises(SettingsError, match="application: is missing"):
        load(tmp_path, "source: {topic: a, contract: b}\nsinks: {}\n")
    with pytest.raises(SettingsError, match="is not YAML"):
        load(tmp_path, "a: [")
    with pytest.raises(SettingsError, match="holds no settings"):
        load(tmp_path, "")
    with pytest.raises(SettingsError, match=r"absent\.yaml: cannot be read"):
        load_settings(tmp_path / "absent.yaml")


def test_the_command_line_takes_an_image_path_and_overrides(tmp_path, monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "settings.yaml").write_text(MINIMAL)
    settings = parse_arguments(["--settings", f"local://{tmp_path}/settings.yaml", "--set", "application=other"])
    assert settings.application == "other"
