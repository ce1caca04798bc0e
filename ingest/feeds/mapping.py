"""From an item of any JSON source to a message of a contract, by JMESPath."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult

from ingest.contracts import Contract, Message
from ingest.errors import BadInputError
from ingest.feeds.interface import RefusedError
from ingest.progress import iso

_OLDEST, _NEWEST = 0.0, 253_402_300_800.0  # 1970 to 9999


def as_number(value: Any) -> float:
    """Return a finite number of a number or its decimal text; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no number")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number


def as_integer(value: Any) -> int:
    """Return a whole number of a number or its text; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def as_seconds(value: Any) -> str:
    """Return an instant as contracts write it, of seconds since 1970; raises ValueError."""
    seconds = as_number(value)
    text = iso(seconds) if _OLDEST < seconds < _NEWEST else None
    if text is None:
        raise ValueError(f"{value!r} is no instant")
    return text


def as_milliseconds(value: Any) -> str:
    """Return an instant as contracts write it, of milliseconds since 1970; raises ValueError."""
    return as_seconds(as_number(value) / 1000)


def as_time(value: Any) -> str:
    """Return an instant as contracts write it, of ISO 8601; UTC if it names no zone, midnight if no time."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no ISO 8601 time")
    day = len(value) == len("2024-01-31")
    moment = datetime.combine(date.fromisoformat(value), datetime.min.time()) if day else datetime.fromisoformat(value)
    return as_seconds((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _as_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is no text")
    return str(value)


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "text": _as_text,
    "number": as_number,
    "integer": as_integer,
    "time": as_time,
    "seconds": as_seconds,
    "milliseconds": as_milliseconds,
}


def taken(data: Mapping[str, Any], name: str, convert: Callable[[Any], Any]) -> Any:
    """Return a field of a source's message, converted; raises RefusedError, naming the field."""
    try:
        return convert(data.get(name))
    except (ValueError, OverflowError) as error:
        raise RefusedError(f"{name}: {error}") from error


@dataclass(frozen=True)
class _Field:
    path: ParsedResult
    convert: Callable[[Any], Any] | None
    optional: bool


def compiled(path: str, where: str) -> ParsedResult:
    """Compile a JMESPath; raises BadInputError, naming where it stands."""
    try:
        return jmespath.compile(path)
    except JMESPathError as error:
        reason = " ".join(str(error).split())
        raise BadInputError(f"{where}: {path!r} is no JMESPath ({reason}): see https://jmespath.org.") from error


class FieldMap:
    """The fields of a contract, each a constant or a path in the item."""

    def __init__(self, fields: Mapping[str, Mapping[str, Any]], contract: Contract, where: str) -> None:
        self._constants: Message = {"schema_version": contract.version}
        self._fields: dict[str, _Field] = {}
        known = contract.schema["properties"]
        for name, spec in fields.items():
            at = f"{where}.{name}"
            if name not in known:
                raise BadInputError(f"{at}: {contract.name} has no such field: it has {', '.join(known)}.")
            if ("value" in spec) == ("path" in spec):
                raise BadInputError(f"{at}: give either a path or a value.")
            if "value" in spec:
                self._constants[name] = spec["value"]
            else:
                convert = _CONVERSIONS[spec["as"]] if "as" in spec else None
                self._fields[name] = _Field(compiled(spec["path"], at), convert, spec.get("optional", False))
        missing = set(contract.schema["required"]) - self._constants.keys() - self._fields.keys()
        if missing:
            raise BadInputError(f"{where}: {contract.name} requires {', '.join(sorted(missing))}: add it.")

    def message(self, item: Any) -> Message:
        """Return the message of an item; raises RefusedError if a field is missing or can't be converted."""
        message = dict(self._constants)
        for name, field in self._fields.items():
            try:
                value = field.path.search(item)
                if value is None:
                    if field.optional:
                        continue
                    raise RefusedError(f"{name}: nothing at {field.path.expression}")
                message[name] = field.convert(value) if field.convert else value
            except RefusedError:
                raise
            except (JMESPathError, ValueError, OverflowError) as error:
                raise RefusedError(f"{name}: {' '.join(str(error).split())}") from error
        return message
