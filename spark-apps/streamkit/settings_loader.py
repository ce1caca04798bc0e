"""From a tree of YAML values to dataclasses, with errors that name the key; knows nothing of streams."""

import dataclasses
import re
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_DURATION = re.compile(r"(\d+(?:\.\d+)?) *(millisecond|second|minute|hour|day)s?")
_MILLISECONDS = {"millisecond": 1, "second": 1000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}


class SettingsError(ValueError):
    """A setting is missing, unknown or has a bad value; the message is one sentence that says which and what to do."""


@dataclass(frozen=True)
class Check:
    """Annotates a field with a function that raises ValueError, saying what it expected, if the value is bad."""

    function: Callable[[Any], None]


def duration_ms(text: str) -> int:
    """Return the milliseconds of a duration such as `2 minutes`. Raises ValueError for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError("expected a duration such as `500 milliseconds`, `1 second` or `5 minutes`")
    return round(float(match[1]) * _MILLISECONDS[match[2]])


def duration(value: str) -> None:
    """Raise ValueError unless the value is a duration above zero."""
    if duration_ms(value) <= 0:
        raise ValueError("expected a duration above zero")


def duration_or_zero(value: str) -> None:
    """Raise ValueError unless the value is a duration."""
    duration_ms(value)


def positive(value: int) -> None:
    """Raise ValueError unless the value is 1 or more."""
    if value < 1:
        raise ValueError("expected 1 or more")


def not_negative(value: int) -> None:
    """Raise ValueError unless the value is 0 or more."""
    if value < 0:
        raise ValueError("expected 0 or more")


def load_dataclass(cls: type, tree: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass (and those it holds) from a tree of plain values. Raises SettingsError."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in tree:
        if key not in fields:
            raise SettingsError(f"{where}: {key}: no such setting: expected one of {', '.join(sorted(fields))}")
    hints = get_type_hints(cls, include_extras=True)
    values = {}
    for name, field in fields.items():
        if name in tree:
            values[name] = _convert(hints[name], tree[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SettingsError(f"{where}: {name}: is missing: add it")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:  # noqa: PLR0911  (one return for each kind of type)
    origin = get_origin(hint)
    if origin is Annotated:
        base, check = get_args(hint)
        converted = _convert(base, value, where)
        try:
            check.function(converted)
        except ValueError as error:
            raise SettingsError(f"{where}: {value!r}: {error}") from error
        return converted
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(arm for arm in get_args(hint) if arm is not type(None)), value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise SettingsError(f"{where}: {value!r}: expected one of {', '.join(map(str, get_args(hint)))}")
        return value
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: {value!r}: expected a group of settings")
        return load_dataclass(hint, value, where)  # type: ignore[arg-type]
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: {value!r}: expected a group of `name: value` lines")
        return {str(key): _text(item) for key, item in value.items()}
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        expected = {int: "a whole number", bool: "true or false", str: "text"}[hint]
        raise SettingsError(f"{where}: {value!r}: expected {expected}")
    return value


def _text(value: Any) -> str:
    """Write a YAML value as Spark and Kafka expect it in their options."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def override(tree: dict[str, Any], assignment: str) -> None:
    """Put `key.path=value` (the value is YAML) into the tree; the key of an option map keeps its own dots.

    Raises SettingsError if the assignment has no `=` or goes through something that is not a group.
    """
    path, separator, text = assignment.partition("=")
    if not separator or not path:
        raise SettingsError(f"--set {assignment}: expected key.path=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {assignment}: the value is not YAML: quote it") from error
    except ValueError as error:  # what looks like a date and is none, such as 2026-13-01
        raise SettingsError(f"--set {assignment}: {error}: correct the value") from error
    keys = path.split(".")
    # Names of Spark and Kafka options have dots of their own: everything after the map's name is one key.
    for index, key in enumerate(keys[:-1]):
        if key in ("spark_conf", "options"):
            keys = [*keys[: index + 1], ".".join(keys[index + 1 :])]
            break
    node = tree
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if child is None:
            child = node[key] = {}
        if not isinstance(child, dict):
            raise SettingsError(f"--set {assignment}: {key} is not a group of settings")
        node = child
    node[keys[-1]] = value


def expand(value: Any, environment: Mapping[str, str], where: str) -> Any:
    """Replace `${NAME}` and `${NAME:-default}` in every string of a dataclass tree. Raises SettingsError if not set."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: expand(getattr(value, field.name), environment, f"{where}: {field.name}")
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changes)
    if isinstance(value, dict):
        return {key: expand(item, environment, f"{where}: {key}") for key, item in value.items()}
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        found = environment.get(name, default)
        if found is None:
            raise SettingsError(f"{where}: needs the environment variable {name}, which is not set: set it")
        return found

    return _VARIABLE.sub(variable, value)
