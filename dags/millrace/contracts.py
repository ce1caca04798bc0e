"""Message contracts for DAGs: what a task sends is checked as what a feed sends (contracts/README.md)."""

import functools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from millrace.config import load_settings
from millrace.errors import MillraceError

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError


def encode(topic: str, message: Mapping[str, Any], version: int = 1) -> tuple[str, bytes]:
    """Return a message's Kafka key and value. Raises MillraceError if it breaks its contract."""
    schema, validator = _load(topic, version)
    error = next(iter(validator.iter_errors(message)), None)
    if error is not None:
        raise MillraceError(f"{topic} v{version}: {_reason(error)}.")
    value = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    if len(value) > schema["x-max-bytes"]:
        raise MillraceError(f"{topic} v{version}: oversized: {len(value)} bytes, limit {schema['x-max-bytes']}.")
    return str(message[schema["x-key"]]), value


def decode(topic: str, value: bytes) -> dict[str, Any]:
    """Return a message that keeps the contract of its own version. Raises MillraceError with the reason if not."""
    try:
        message = json.loads(value)
    except ValueError as error:
        raise MillraceError(f"malformed JSON: {error}.") from error
    version = message.get("schema_version") if isinstance(message, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise MillraceError(f"unknown schema_version {version}.")
    _, validator = _load(topic, version)
    broken = next(iter(validator.iter_errors(message)), None)
    if broken is not None:
        raise MillraceError(f"{topic} v{version}: {_reason(broken)}.")
    return message


def _reason(error: "ValidationError") -> str:
    field = ".".join(str(part) for part in error.absolute_path)
    return f"invalid {field}: {error.message}" if field else error.message


@functools.cache
def _load(topic: str, version: int) -> tuple[dict[str, Any], "Draft202012Validator"]:
    from jsonschema import Draft202012Validator

    path = load_settings().root / "contracts" / topic / f"v{version}.json"
    try:
        schema = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise MillraceError(
            f"There is no contract {topic} v{version} at {path} ({error}): check MILLRACE_ROOT."
        ) from None
    return schema, Draft202012Validator(schema)
