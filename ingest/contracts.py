"""Message contracts: JSON Schemas in `contracts/<topic>/v<N>.json`, checked before a message is sent."""

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from ingest.errors import BadInputError

Message = dict[str, Any]
Schema = dict[str, Any]


class ContractError(ValueError):
    """A message breaks its contract; the text says which contract, which field and how."""


@dataclass(frozen=True)
class Contract:
    """One version of one topic's message."""

    topic: str
    version: int
    schema: Schema
    validator: jsonschema_rs.Draft202012Validator

    @property
    def name(self) -> str:
        """Topic and version as errors name them, for example `events v1`."""
        return f"{self.topic} v{self.version}"

    @property
    def max_bytes(self) -> int:
        """The largest encoded message, in bytes."""
        return self.schema["x-max-bytes"]

    def check(self, message: Message) -> None:
        """Raise ContractError unless the message keeps the contract (its size is checked by `encode`)."""
        if not self.validator.is_valid(message):
            raise ContractError(f"{self.name}: {self._reason(message)}")

    def encode(self, message: Message) -> bytes:
        """Check a message and return it as compact JSON; raises ContractError."""
        self.check(message)
        value = orjson.dumps(message)
        if len(value) > self.max_bytes:
            raise ContractError(f"{self.name}: oversized: {len(value)} bytes, limit {self.max_bytes}")
        return value

    def key(self, message: Message) -> bytes:
        """Return the Kafka key: the field that `x-key` names, or `event_id` where a message lacks it."""
        return str(message.get(self.schema["x-key"]) or message["event_id"]).encode()

    def _reason(self, message: Message) -> str:
        error = next(iter(self.validator.iter_errors(message)))
        field = ".".join(str(part) for part in error.instance_path)
        return f"invalid {field}: {error.message}" if field else error.message


def contracts_root() -> Path:
    """Return the folder of the contracts: `MILLRACE_CONTRACTS`, or `contracts/` next to this package."""
    given = os.environ.get("MILLRACE_CONTRACTS")
    return Path(given) if given else Path(__file__).resolve().parent.parent / "contracts"


def versions(topic: str, root: Path | None = None) -> list[int]:
    """Return the versions of a topic's contract, oldest first; empty if it has none."""
    found = (re.fullmatch(r"v([1-9][0-9]*)[.]json", p.name) for p in ((root or contracts_root()) / topic).glob("*"))
    return sorted(int(match[1]) for match in found if match)


@functools.cache
def _held(topic: str, root: Path | None) -> frozenset[int]:
    """Return the versions that a reader holds; it reads too many messages to look for files for each."""
    return frozenset(versions(topic, root))


def build(topic: str, version: int, schema: Schema) -> Contract:
    """Make a contract of a schema; raises BadInputError if it isn't a usable JSON Schema 2020-12."""
    try:
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise BadInputError(f"the contract {topic} v{version} isn't a valid JSON Schema: {error}.") from error
    missing = {"x-key", "x-event-time", "x-max-bytes"} - schema.keys()
    if missing:
        raise BadInputError(
            f"the contract {topic} v{version} lacks {', '.join(sorted(missing))}: see contracts/README.md."
        )
    return Contract(topic, version, schema, validator)


@functools.cache
def load(topic: str, version: int = 1, root: Path | None = None) -> Contract:
    """Load one version of a topic's contract; raises BadInputError if there is none or it can't be read."""
    path = (root or contracts_root()) / topic / f"v{version}.json"
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        have = ", ".join(f"v{v}" for v in versions(topic, root)) or "none"
        raise BadInputError(f"no contract {topic} v{version}: {path} doesn't exist (versions there: {have}).") from None
    except ValueError as error:
        raise BadInputError(f"the contract {path} isn't JSON: {error}.") from error
    return build(topic, version, schema)


def read(topic: str, value: bytes, as_version: int, root: Path | None = None) -> Message:
    """Decode a message for a reader that was written for `as_version`.

    The message may be of any version whose file is there. It is checked against its own version; fields
    that the reader's version doesn't know are left out, and the result keeps the contract of the reader's
    version. Raises ContractError with the reason that belongs into the dead-letter topic.
    """
    try:
        message = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise ContractError(f"malformed JSON: {error}") from error
    if not isinstance(message, dict):
        raise ContractError("malformed JSON: not an object")
    version = message.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int) or version not in _held(topic, root):
        raise ContractError(f"unknown schema_version {version}")
    own, reader = load(topic, version, root), load(topic, as_version, root)
    if len(value) > own.max_bytes:
        raise ContractError(f"oversized: {len(value)} bytes, limit {own.max_bytes}")
    own.check(message)
    known = reader.schema["properties"]
    return {name: field for name, field in message.items() if name in known} | {"schema_version": as_version}
