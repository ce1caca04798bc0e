"""An app's settings: YAML to dataclasses, `${NAME}` for environment variables, `--set key.path=value` on top."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from streamkit.settings_loader import (
    Check,
    SettingsError,
    duration,
    duration_or_zero,
    expand,
    load_dataclass,
    not_negative,
    override,
    positive,
)

__all__ = [
    "AppSettings",
    "BatchSettings",
    "SettingsError",
    "load_batch_settings",
    "load_settings",
    "parse_arguments",
    "parse_batch_arguments",
]

Duration = Annotated[str, Check(duration)]
Count = Annotated[int, Check(positive)]


@dataclass(frozen=True)
class KafkaSecuritySettings:
    """How to prove to a Kafka cluster who the app is; by default from the environment that its pod gets."""

    protocol: str = "${KAFKA_SECURITY_PROTOCOL:-PLAINTEXT}"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    mechanism: str = "${KAFKA_SASL_MECHANISM:-SCRAM-SHA-512}"
    username: str = "${KAFKA_USERNAME:-}"
    password: str = field(default="${KAFKA_PASSWORD:-}", repr=False)
    ca_location: str = "${KAFKA_SSL_CA_LOCATION:-}"
    """PEM file with the certificate authority of the brokers; empty for those that Java trusts."""


@dataclass(frozen=True)
class SourceSettings:
    """A Kafka topic to read, and how much of it at a time."""

    topic: str
    contract: str
    """Folder of the topic's message contract (`v<N>.json` files), relative to the settings file."""
    bootstrap_servers: str = "${KAFKA_BOOTSTRAP_SERVERS}"
    starting_offsets: str = "earliest"
    """Where a new checkpoint starts: `earliest`, `latest`, or Spark's JSON of offsets. A checkpoint goes before it."""
    max_offsets_per_trigger: Count = 100_000
    """Most records of one micro-batch, over all partitions."""
    min_partitions: Count = 10
    """Fewest Spark tasks that read one micro-batch; Kafka partitions are split to reach it."""
    max_partitions: Count | None = None
    """Most Spark tasks that read one micro-batch (none: no limit); Kafka partitions are read one after the other to
    reach it. As many as there are cores make small batches quicker; docs/tuning.md."""
    security: KafkaSecuritySettings = field(default_factory=KafkaSecuritySettings)
    options: dict[str, str] = field(default_factory=dict)
    """Further options of Spark's Kafka source, such as `kafka.client.id`; the dead-letter sink takes its `kafka.*`."""


@dataclass(frozen=True)
class WatermarkSettings:
    """How long to wait for late events."""

    delay: Duration
    scope: Literal["partition", "topic"] = "partition"
    """`topic`: one watermark over all partitions. `partition`: one for each partition, the smallest of which holds."""


@dataclass(frozen=True)
class WindowSettings:
    """A sliding time window."""

    length: Duration
    slide: Duration


@dataclass(frozen=True)
class StateStoreSettings:
    """Where a stateful query keeps its state between micro-batches."""

    provider: Literal["rocksdb", "hdfs"] = "rocksdb"
    changelog: bool = True
    """Write each batch's changes, and whole snapshots only now and then (RocksDB)."""


@dataclass(frozen=True)
class DeltaSinkSettings:
    """A Delta table to write."""

    path: str


@dataclass(frozen=True)
class KafkaSinkSettings:
    """A Kafka topic to write."""

    topic: str
    bootstrap_servers: str = "${KAFKA_BOOTSTRAP_SERVERS}"
    security: KafkaSecuritySettings = field(default_factory=KafkaSecuritySettings)
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SinksSettings:
    """Where results go; a sink that is not named is not written."""

    delta: DeltaSinkSettings | None = None
    kafka: KafkaSinkSettings | None = None


@dataclass(frozen=True)
class DeadLetterSettings:
    """Where records go that break the contract."""

    topic: str


@dataclass(frozen=True)
class ReferenceSettings:
    """A Delta table in which a stream looks things up."""

    path: str
    version: Annotated[int, Check(not_negative)] | None = None
    """Which version of it (none: the newest one when the app starts)."""


@dataclass(frozen=True)
class ObjectStoreSettings:
    """The S3 service behind `s3a://` locations; its keys come from the environment or the pod's identity."""

    endpoint: str = "${AWS_ENDPOINT_URL_S3:-}"
    """Base URL; empty for AWS itself."""
    region: str = "${AWS_REGION:-us-east-1}"


@dataclass(frozen=True)
class AppSettings:
    """Everything that an app reads from its settings.yaml."""

    application: str
    source: SourceSettings
    sinks: SinksSettings
    mode: Literal["micro-batch", "real-time"] = "micro-batch"
    trigger: Annotated[str, Check(duration_or_zero)] = "1 second"
    """Time between the starts of two micro-batches (`0 seconds`: each starts when the one before ends); in real-time
    mode the length of one long batch."""
    output_mode: Literal["append", "update", "complete"] = "append"
    watermark: WatermarkSettings | None = None
    window: WindowSettings | None = None
    dead_letter: DeadLetterSettings | None = None
    reference: ReferenceSettings | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    """What only this app knows, by its own names; see streamkit.parameters."""
    state_store: StateStoreSettings = field(default_factory=StateStoreSettings)
    object_store: ObjectStoreSettings = field(default_factory=ObjectStoreSettings)
    min_batches_to_retain: Count = 100
    checkpoint_base: str = "${MILLRACE_STORAGE}/checkpoints"
    control_base: str = "${MILLRACE_STORAGE}/control"
    """The app stops gracefully when the file `<control_base>/<application>/stop` appears."""
    event_log: str = "${MILLRACE_EVENT_LOG:-}"
    """Where Spark writes its event log, for the history server; empty for nowhere."""
    stop_timeout: Duration = "2 minutes"
    """Longest wait for running micro-batches to end, once asked to stop."""
    spark_conf: dict[str, str] = field(default_factory=dict)

    def checkpoint(self, query: str) -> str:
        """Return the checkpoint location of one of this app's queries."""
        return f"{self.checkpoint_base}/{self.application}/{query}"

    @property
    def stop_file(self) -> str:
        """Path of the file that asks this app to stop."""
        return f"{self.control_base}/{self.application}/stop"


@dataclass(frozen=True)
class BatchSettings:
    """Everything that an app without a stream reads from its settings.yaml."""

    application: str
    table: DeltaSinkSettings
    """The Delta table that it makes."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What only this app knows, by its own names; see streamkit.parameters."""
    object_store: ObjectStoreSettings = field(default_factory=ObjectStoreSettings)
    event_log: str = "${MILLRACE_EVENT_LOG:-}"
    """Where Spark writes its event log, for the history server; empty for nowhere."""
    spark_conf: dict[str, str] = field(default_factory=dict)


def load_settings(
    path: Path | str, overrides: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> AppSettings:
    """Read a streaming app's settings; see `_load`."""
    path = Path(path)
    settings: AppSettings = _load(AppSettings, path, overrides, environment)
    return _checked(settings, path)


def load_batch_settings(
    path: Path | str, overrides: Sequence[str] = (), environment: Mapping[str, str] = os.environ
) -> BatchSettings:
    """Read a batch app's settings; see `_load`."""
    settings: BatchSettings = _load(BatchSettings, Path(path), overrides, environment)
    return settings


def _load(cls: type, path: Path, overrides: Sequence[str], environment: Mapping[str, str]) -> Any:
    """Read settings of a class.

    `overrides` are `key.path=value` strings whose values are YAML. `${NAME}` and `${NAME:-default}` are replaced in
    every string, defaults of the dataclasses among them. Raises SettingsError, one sentence naming file and key.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"{path}: cannot be read ({error.strerror}): name a settings file with --settings"
        ) from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: holds no settings: expected `key: value` lines")
    for assignment in overrides:
        override(tree, assignment)
    return expand(load_dataclass(cls, tree, str(path)), environment, str(path))


def _checked(settings: AppSettings, path: Path) -> AppSettings:
    """Resolve paths against the settings file and refuse combinations that Spark cannot run."""
    if settings.sinks.delta is None and settings.sinks.kafka is None:
        raise SettingsError(f"{path}: sinks: none is given: name `delta` or `kafka`")
    if settings.mode == "real-time":
        if settings.window or settings.watermark:
            raise SettingsError(
                f"{path}: mode: real-time runs stateless apps only: remove window and watermark, or use micro-batch"
            )
        if settings.sinks.delta or settings.sinks.kafka is None:
            raise SettingsError(f"{path}: mode: real-time writes to Kafka only: remove sinks.delta, or use micro-batch")
    if settings.window and settings.watermark is None and settings.output_mode == "append":
        raise SettingsError(
            f"{path}: output_mode: append needs a watermark to know when a window is done: set watermark.delay"
        )
    contract = path.parent / settings.source.contract
    object.__setattr__(settings.source, "contract", str(contract.resolve()))
    return settings


def parse_arguments(argv: Sequence[str] | None = None) -> AppSettings:
    """Read `--settings FILE [--set key.path=value]...` and the settings they name. Raises SettingsError."""
    return load_settings(*_arguments(argv, "A Millrace streaming app."))


def parse_batch_arguments(argv: Sequence[str] | None = None) -> BatchSettings:
    """Read the same command line for an app without a stream. Raises SettingsError."""
    return load_batch_settings(*_arguments(argv, "A Millrace batch app."))


def _arguments(argv: Sequence[str] | None, description: str) -> tuple[str, list[str]]:
    """Return the settings file and the overrides that a command line names."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", required=True, help="the app's settings.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY.PATH=VALUE", help="override one setting")
    arguments: Any = parser.parse_args(argv)
    # `local://` is how a SparkApplication names a file of its image; Spark leaves arguments as they are.
    return arguments.settings.removeprefix("local://"), arguments.set
