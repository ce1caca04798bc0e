"""From an app's settings to Spark's configuration."""

from pathlib import Path

import pytest

from streamkit.session import spark_conf
from streamkit.settings import load_settings

SETTINGS = """
application: counter
source: {topic: events, contract: contracts/events}
sinks: {kafka: {topic: counts}}
"""
MANAGER = "spark.sql.streaming.checkpointFileManagerClass"


def conf(tmp_path: Path, storage: str, *overrides: str, **environment: str) -> dict[str, str]:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)
    environment |= {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": storage}
    return spark_conf(load_settings(path, overrides, environment))


@pytest.mark.parametrize(
    ("storage", "manager"),
    [
        ("file:///data", "FileSystemBasedCheckpointFileManager"),
        ("/data", "FileSystemBasedCheckpointFileManager"),
        ("s3a://bucket", "AbortableStreamBasedCheckpointFileManager"),
    ],
)
def test_checkpoint_files_are_whole_or_not_there_on_every_storage(tmp_path, storage, manager):
    assert conf(tmp_path, storage)[MANAGER].endswith(f".{manager}")
    assert conf(tmp_path, storage, f"spark_conf.{MANAGER}=mine")[MANAGER] == "mine"


def test_what_spark_does_not_know_keeps_spark_s_own_choice(tmp_path):
    assert MANAGER not in conf(tmp_path, "abfss://container@account.dfs.core.windows.net")


def test_a_service_of_one_s_own_is_reached_at_its_endpoint(tmp_path):
    own = conf(tmp_path, "s3a://bucket", AWS_ENDPOINT_URL_S3="http://store:7070", AWS_REGION="eu-1")
    assert own["spark.hadoop.fs.s3a.endpoint"] == "http://store:7070"
    assert own["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert own["spark.hadoop.fs.s3a.endpoint.region"] == "eu-1"
    assert not [value for value in own.values() if "secret" in value.lower()]


def test_aws_itself_needs_no_endpoint_and_a_disk_nothing(tmp_path):
    aws = conf(tmp_path, "s3a://bucket")
    assert "spark.hadoop.fs.s3a.endpoint" not in aws
    assert aws["spark.hadoop.fs.s3a.endpoint.region"] == "us-east-1"
    assert not [name for name in conf(tmp_path, "file:///data") if "s3a" in name]


def test_the_event_log_is_written_where_a_history_server_reads_it(tmp_path):
    assert not [name for name in conf(tmp_path, "file:///data") if "eventLog" in name]
    logged = conf(tmp_path, "s3a://bucket", MILLRACE_EVENT_LOG="s3a://bucket/spark-events")
    assert logged["spark.eventLog.enabled"] == logged["spark.eventLog.rolling.enabled"] == "true"
    assert logged["spark.eventLog.dir"] == "s3a://bucket/spark-events"
