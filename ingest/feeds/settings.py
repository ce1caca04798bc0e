"""The settings of the feeds: YAML, checked against `schema.json`, to dataclasses; each error names file and key."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from ingest.errors import BadInputError
from ingest.feeds.breaker import RetrySettings
from ingest.feeds.http import HttpSettings
from ingest.feeds.rest import PagingSettings, RestSettings
from ingest.feeds.simulator import start_of
from ingest.feeds.trades import RefillSettings, StreamSettings
from ingest.feeds.websocket import WebSocketSettings
from ingest.simulate import SimulationSettings

_SCHEMA = Path(__file__).with_name("schema.json")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
# Of each kind: the group of the schema with its settings, and which of them must be given.
_GROUPS = {
    "binance-trades": ("stream", ("symbol", "product", "websocket")),
    "coinbase-ticker": ("stream", ("symbol", "product", "websocket")),
    "rest": ("rest", ("url", "interval_seconds", "fields")),
    "simulated-market": ("simulated-market", ("rate",)),
}
_COMMON_REQUIRED = ("kind", "topic")

SourceSettings = StreamSettings | RestSettings | SimulationSettings


@dataclass(frozen=True)
class FeedSettings:
    """One feed of the settings file."""

    name: str
    kind: str
    topic: str
    where: str
    """File and key, as errors name them."""
    source: SourceSettings
    description: str = ""
    contract: str = ""
    contract_version: int = 1
    dead_letter_topic: str = ""
    max_record_bytes: int = 65536
    quiet: bool = False
    retry: RetrySettings = field(default_factory=RetrySettings)


def load_all(path: Path, environment: Mapping[str, str] = os.environ) -> list[FeedSettings]:
    """Read every feed of a file, in its order; raises BadInputError, one sentence that names file and key."""
    return [_feed(path, name, tree, environment) for name, tree in _feeds(path).items()]


def load(
    path: Path,
    name: str,
    overrides: Sequence[str] = (),
    topic: str = "",
    environment: Mapping[str, str] = os.environ,
) -> FeedSettings:
    """Read one feed, with `key.path=value` strings (values are YAML) on top; raises BadInputError as `load_all`.

    A topic that is given takes the place of the file's; the contract stays.
    """
    feeds = _feeds(path)
    if name not in feeds:
        raise BadInputError(f"{path}: there is no feed {name}: it has {', '.join(feeds) or 'none'}.")
    for assignment in overrides:
        _override(feeds[name], assignment)
    if topic:
        feeds[name] = {"contract": feeds[name].get("topic", topic), **feeds[name], "topic": topic}
    return _feed(path, name, feeds[name], environment)


class _Loader(yaml.SafeLoader):
    """Reads an instant as the text that it is: settings and queries want it so."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _yaml(text: str) -> Any:
    return yaml.load(text, _Loader)  # noqa: S506 - a safe loader that knows fewer types


def _feeds(path: Path) -> dict[str, Any]:
    try:
        tree = _yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path}: can't be read ({error.strerror}): name a file with --settings.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: isn't YAML: {' '.join(str(error).split())}.") from error
    schema = _schema()
    _check(tree, {key: value for key, value in schema.items() if key not in ("$defs", "x-groups")}, str(path))
    return tree["feeds"]


def _schema() -> dict[str, Any]:
    return json.loads(_SCHEMA.read_text(encoding="utf-8"))


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON Schema of one kind's settings."""
    whole = _schema()
    group, required = _GROUPS[kind]
    return {
        "$schema": whole["$schema"],
        "type": "object",
        "properties": whole["x-groups"]["common"] | whole["x-groups"][group],
        "required": [*_COMMON_REQUIRED, *required],
        "additionalProperties": False,
        "$defs": whole["$defs"],
    }


def _check(tree: Any, schema: dict[str, Any], where: str) -> None:
    try:
        error = next(iter(jsonschema_rs.Draft202012Validator(schema).iter_errors(tree)), None)
    except ValueError as strange:  # such as a key that is no text
        raise BadInputError(f"{where}: holds what no setting can be ({strange}): put it in quotes.") from strange
    if error is not None:
        key = ".".join(str(part) for part in error.instance_path)
        at = f"{where}{'.' if where.count(': ') else ': '}{key}" if key else where
        raise BadInputError(f"{at}: {error.message}.")


def _override(tree: Any, assignment: str) -> None:
    path, separator, text = assignment.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        raise BadInputError(f"--set {assignment}: write key=value, such as retry.breaker_failures=3.")
    try:
        value = _yaml(text)
    except yaml.YAMLError as error:
        raise BadInputError(f"--set {assignment}: the value isn't YAML: quote it.") from error
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise BadInputError(f"--set {assignment}: {key} isn't a group of settings.")
    tree[keys[-1]] = value


def _expanded(value: Any, environment: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item, environment, f"{where}.{key}") for key, item in value.items()}
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        found = environment.get(match[1], match[2])
        if found is None:
            raise BadInputError(f"{where}: needs the environment variable {match[1]}: set it.")
        return found

    return _VARIABLE.sub(variable, value)


def _feed(path: Path, name: str, tree: dict[str, Any], environment: Mapping[str, str]) -> FeedSettings:
    where = f"{path}: feeds.{name}"
    tree = _expanded(tree, environment, where)
    kind = tree["kind"]
    if kind not in _GROUPS:
        raise BadInputError(f"{where}.kind: {kind!r} is none of {', '.join(_GROUPS)}.")
    _check(tree, schema_of(kind), where)
    own = _schema()["x-groups"][_GROUPS[kind][0]]
    common = {key: value for key, value in tree.items() if key not in own}
    source = _source(kind, {key: value for key, value in tree.items() if key in own}, where)
    common["retry"] = RetrySettings(**common.get("retry", {}))
    common.setdefault("contract", common["topic"])
    common.setdefault("dead_letter_topic", f"{common['topic']}-dead-letter")
    return FeedSettings(name=name, where=where, source=source, **common)


def _source(kind: str, tree: dict[str, Any], where: str) -> SourceSettings:
    match _GROUPS[kind][0]:
        case "stream":
            refill = tree.get("refill", {})
            return StreamSettings(
                symbol=tree["symbol"],
                product=tree["product"],
                websocket=WebSocketSettings(**tree["websocket"]),
                refill=RefillSettings(**refill | {"http": HttpSettings(**refill.get("http", {}))}),
            )
        case "rest":
            groups = {
                "paging": PagingSettings(**tree.get("paging", {})),
                "http": HttpSettings(**tree.get("http", {})),
            }
            return RestSettings(**tree | groups)
        case _:
            start = start_of(tree.get("start_time", "now"), f"{where}.start_time")
            return SimulationSettings(seed=tree.get("seed", 1), rate=tree["rate"], start_time=start)
