"""Settings of the sinks that take a batch over HTTP."""

from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from streamkit.settings_loader import FROM_ENVIRONMENT, Check, positive

Retries = Annotated[int, Check(positive)]


@dataclass(frozen=True)
class ClickHouseSinkSettings:
    """A ClickHouse table to write; the user and the password come from the environment only."""

    url: str
    """Of the HTTP interface, such as `https://clickhouse.example:8443`."""
    table: str
    database: str = "default"
    version_column: str | None = None
    """Column that gets the batch's number, by which a ReplacingMergeTree keeps the newest of the rows with the same
    key: what output modes `update` and `complete` need."""
    ca_location: str = "${CLICKHOUSE_CA_LOCATION:-}"
    """PEM file with the certificate authority of the server; empty for those that the machine trusts."""
    retries: Retries = 8
    """Most further tries to reach the server, with growing pauses: 45 s together."""
    username: str = field(default="${CLICKHOUSE_USERNAME:-}", metadata=FROM_ENVIRONMENT)
    password: str = field(default="${CLICKHOUSE_PASSWORD:-}", repr=False, metadata=FROM_ENVIRONMENT)
    options: dict[str, str] = field(default_factory=dict)
    """ClickHouse settings of each insert, such as `insert_quorum`; those that make it come once stay as they are."""


@dataclass(frozen=True)
class OpenSearchSinkSettings:
    """An index of OpenSearch or Elasticsearch to write; the user and the password come from the environment only."""

    url: str
    index: str
    id_columns: tuple[str, ...] = ()
    """Columns that name a row, of which the document's id is made; empty for those that the app names."""
    ca_location: str = "${OPENSEARCH_CA_LOCATION:-}"
    """PEM file with the certificate authority of the server; empty for those that the machine trusts."""
    retries: Retries = 8
    """Most further tries to reach the server, with growing pauses: 45 s together."""
    username: str = field(default="${OPENSEARCH_USERNAME:-}", metadata=FROM_ENVIRONMENT)
    password: str = field(default="${OPENSEARCH_PASSWORD:-}", repr=False, metadata=FROM_ENVIRONMENT)


def check_http_sinks(
    clickhouse: ClickHouseSinkSettings | None, opensearch: OpenSearchSinkSettings | None, output_mode: str
) -> None:
    """Raise ValueError, naming the setting, for an address that is none and for what ClickHouse can't do."""
    for name, sink in (("clickhouse", clickhouse), ("opensearch", opensearch)):
        if sink is None:
            continue
        parts = urlsplit(sink.url)
        if parts.username is not None:
            raise ValueError(
                f"sinks: {name}: url: holds a user: remove it, and set {name.upper()}_USERNAME and "
                f"{name.upper()}_PASSWORD in the environment"
            )
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError(f"sinks: {name}: url: {sink.url!r}: expected an address such as `https://example:8443`")
    if clickhouse and not clickhouse.version_column and output_mode != "append":
        raise ValueError(
            f"output_mode: {output_mode} replaces rows, of which ClickHouse must be told the newest: "
            "set sinks.clickhouse.version_column, or take append"
        )
