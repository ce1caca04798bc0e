"""Message contracts on the reading side: JSON Schema files to a Spark schema, a test for validity, and a reason.

A contract is a folder of `v<N>.json` files. A later version only adds optional fields, so one Spark schema (that of all
versions together) reads them all. Fields that no version names are ignored, as a reader should.

`valid` is one cheap test that every record passes through; `reason` says in words why a record failed it, and is
evaluated for failed records only. All queries of an app use the same test, so a record is counted or dead-lettered,
never both and never neither.
"""

import json
import re
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    LongType,
    StringType,
    StructField,
    StructType,
)

_TYPES: dict[str, DataType] = {
    "string": StringType(),
    "integer": LongType(),
    "number": DoubleType(),
    "boolean": BooleanType(),
}
_KNOWN_KEYWORDS = {
    "type", "const", "enum", "format", "pattern", "minLength", "maxLength", "minimum", "maximum",
    "exclusiveMinimum", "exclusiveMaximum", "title", "description", "examples", "$comment", "default",
}  # fmt: skip
_RULES = {"if", "then", "else", "allOf", "anyOf", "oneOf", "not", "dependentRequired", "dependentSchemas"}
_CORRUPT = "_corrupt"


class ContractError(ValueError):
    """A contract cannot be read or uses a keyword that streamkit does not enforce; the message says which."""


@dataclass(frozen=True)
class Field:
    """One property of a message, as all versions of its contract together describe it."""

    name: str
    data_type: DataType
    json_type: str
    required: bool
    keywords: dict[str, Any]
    required_if: tuple[str, tuple[Any, ...]] | None = None
    """Another field and its values with which this one must be there too; None where there is no such rule."""


@dataclass(frozen=True)
class Contract:
    """What a topic's messages look like.

    The Columns are built over the columns `key` and `value` (binary, as Kafka's source gives them) and `event`
    (what `parsed()` yields).
    """

    topic: str
    versions: tuple[int, ...]
    fields: tuple[Field, ...]
    event_time: str
    max_bytes: int

    @property
    def schema(self) -> StructType:
        """Spark schema of a message, plus the column that holds the text of a record that did not fit it."""
        fields = [StructField(field.name, field.data_type) for field in self.fields]
        return StructType([*fields, StructField(_CORRUPT, StringType())])

    def parsed(self) -> Column:
        """Return the message as one struct; its `_corrupt` is null if it was JSON and of the right types."""
        options = {"columnNameOfCorruptRecord": _CORRUPT, "allowSingleQuotes": "false"}
        return F.from_json(F.col("value").cast("string"), self.schema, options)

    def timestamp(self) -> Column:
        """Return the event time as a timestamp; null if it is none."""
        return F.col(f"event.{self.event_time}").try_cast("timestamp")

    def valid(self) -> Column:
        """Return true for a record that keeps the contract, else false; never null."""
        tests = [
            F.col("key").isNotNull(),
            F.octet_length("value") <= self.max_bytes,
            _ends_as_object(),
            F.col(f"event.{_CORRUPT}").isNull(),
            F.col("event.schema_version").isin(*self.versions),
            *(_holds(field) for field in self.fields if field.name != "schema_version"),
            self.timestamp().isNotNull(),
        ]
        return F.coalesce(reduce(lambda left, right: left & right, tests), F.lit(False))

    def reason(self) -> Column:
        """Return why a record is not valid, or null if it is."""
        size = F.octet_length("value")
        version = F.col("event.schema_version")
        case = (
            F.when(self.valid(), None)
            .when(F.col("key").isNull(), "null key")
            .when(size > self.max_bytes, F.format_string(f"oversized: %d bytes, limit {self.max_bytes}", size))
            .when(F.col("value").isNull() | ~_ends_as_object(), "malformed JSON")
            .when(F.expr("try_parse_json(cast(value as string))").isNull(), "malformed JSON")
            .when(~version.isin(*self.versions), F.format_string("unknown schema_version %d", version))
        )
        for field in self.fields:
            case = _explain(case, field)
        return case.when(
            self.timestamp().isNull(),
            F.format_string(
                f"invalid {self.event_time}: '%s' is not a date and time", F.col(f"event.{self.event_time}")
            ),
        ).otherwise("malformed JSON")


def _ends_as_object() -> Column:
    """Return whether nothing but space follows the last brace, as the parser stops at the object's end."""
    text = F.col("value").cast("string")
    return text.endswith("}") | text.rlike(r"\}[ \t\r\n]+$")  # the first, cheap test nearly always decides


def load_contract(folder: Path | str) -> Contract:
    """Read all versions of a topic's contract. Raises ContractError."""
    folder = Path(folder)
    files = {
        int(match[1]): path for path in folder.glob("v*.json") if (match := re.fullmatch(r"v(\d+)\.json", path.name))
    }
    if not files:
        raise ContractError(f"{folder}: holds no contract: expected files v1.json, v2.json, ...")
    schemas = {}
    for version, path in sorted(files.items()):
        try:
            schemas[version] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ContractError(f"{path}: cannot be read as JSON: {error}") from error
    newest = schemas[max(schemas)]
    for keyword in ("x-event-time", "x-max-bytes"):
        if keyword not in newest:
            raise ContractError(f"{folder}: {keyword} is missing: the newest version must state it")
    fields: dict[str, Field] = {}
    for version, schema in schemas.items():
        where = f"{folder}/v{version}.json"
        condition, names = _conditional(schema, where)
        for name, keywords in schema["properties"].items():
            field = _field(name, keywords, name in schema.get("required", ()), where)
            fields[name] = replace(field, required_if=condition if name in names else None)
    return Contract(
        topic=folder.name,
        versions=tuple(schemas),
        fields=tuple(fields.values()),
        event_time=newest["x-event-time"],
        max_bytes=newest["x-max-bytes"],
    )


def _conditional(schema: dict[str, Any], where: str) -> tuple[tuple[str, tuple[Any, ...]] | None, list[str]]:
    """Return a schema's one rule of the form "if this field has one of these values, those fields are required"."""
    if not _RULES & set(schema):
        return None, []
    test: dict[str, Any] = schema.get("if", {})
    rule: dict[str, Any] = schema.get("then", {})
    tested: list[tuple[str, dict[str, Any]]] = list(test.get("properties", {}).items()) or [("", {})]
    name, keywords = tested[0]
    simple = set(test) == {"properties"} and len(tested) == 1 and set(keywords) == {"enum"}
    if _RULES & set(schema) != {"if", "then"} or not simple or set(rule) != {"required"}:
        raise ContractError(
            f"{where}: streamkit enforces only `if` one field's `enum` `then` `required` between fields: say it so"
        )
    return (name, tuple(keywords["enum"])), rule["required"]


def _field(name: str, keywords: dict[str, Any], required: bool, where: str) -> Field:
    unknown = {key for key in keywords if not key.startswith("x-")} - _KNOWN_KEYWORDS
    if unknown:
        raise ContractError(
            f"{where}: {name}: streamkit does not enforce {', '.join(sorted(unknown))}: use other keywords"
        )
    kinds = keywords.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    if not kinds:
        sample = keywords["const"] if "const" in keywords else keywords.get("enum", [None])[0]
        kinds = [{bool: "boolean", int: "integer", float: "number", str: "string"}.get(type(sample), "unknown")]
    plain = [kind for kind in kinds if kind != "null"]
    if len(plain) != 1 or plain[0] not in _TYPES:
        raise ContractError(f"{where}: {name}: one of string, integer, number, boolean is needed, and got {kinds}")
    return Field(name, _TYPES[plain[0]], plain[0], required, keywords)


def _tests(field: Field) -> list[tuple[Column, Column]]:
    """Return (test, words) pairs of a field's keywords; a test is null for a null value."""
    value = F.col(f"event.{field.name}")
    quoted = F.concat(F.lit("'"), F.substring(value.cast("string"), 1, 100), F.lit("'"))
    keywords = field.keywords
    pairs: list[tuple[Column, Column]] = []

    def add(test: Column, words: str) -> None:
        pairs.append((test, F.concat(F.lit(f"invalid {field.name}: "), quoted, F.lit(f" {words}"))))

    if "const" in keywords and field.name != "schema_version":
        add(value == keywords["const"], f"is not {keywords['const']}")
    if "enum" in keywords:
        allowed = [item for item in keywords["enum"] if item is not None]
        add(value.isin(*allowed), f"is not one of {', '.join(map(str, allowed))}")
    if "minLength" in keywords:
        minimum = keywords["minLength"]
        # The common case is cheaper as a comparison than by counting characters.
        add(value != "" if minimum == 1 else F.length(value) >= minimum, f"is shorter than {minimum} characters")
    if "maxLength" in keywords:
        add(F.length(value) <= keywords["maxLength"], f"is longer than {keywords['maxLength']} characters")
    if "pattern" in keywords:
        add(value.rlike(keywords["pattern"]), f"does not match {keywords['pattern']}")
    for keyword, test, words in (
        ("minimum", value.__ge__, "is less than"),
        ("maximum", value.__le__, "is more than"),
        ("exclusiveMinimum", value.__gt__, "is not more than"),
        ("exclusiveMaximum", value.__lt__, "is not less than"),
    ):
        if keyword in keywords:
            add(test(keywords[keyword]), f"{words} {keywords[keyword]}")
    return pairs


def _holds(field: Field) -> Column:
    """Return the field's test: null or false if it fails."""
    value = F.col(f"event.{field.name}")
    tests = [test for test, _ in _tests(field)]
    if not (tests or field.required or field.required_if):
        return F.lit(True)
    test = reduce(lambda left, right: left & right, tests or [value.isNotNull()])
    if field.required:
        return test
    return test | (value.isNull() & ~_demanded(field) if field.required_if else value.isNull())


def _demanded(field: Field) -> Column:
    """Return whether the field must be there; null where the field that decides it is null."""
    if field.required_if is None:
        return F.lit(field.required)
    other, values = field.required_if
    return F.col(f"event.{other}").isin(*values)


def _explain(case: Column, field: Field) -> Column:
    """Add the field's reasons to a `when` chain."""
    value = F.col(f"event.{field.name}")
    if field.json_type != "string":
        # Not parsed although the text holds something for it: it was of another type.
        raw = F.get_json_object(F.col("value").cast("string"), f"$.{field.name}")
        case = case.when(
            value.isNull() & raw.isNotNull(),
            F.concat(
                F.lit(f"invalid {field.name}: '"),
                F.substring(raw, 1, 100),
                F.lit(f"' is not of type {field.json_type}"),
            ),
        )
    if field.required or field.required_if:
        case = case.when(value.isNull() & _demanded(field), f"invalid {field.name}: missing")
    for test, words in _tests(field):
        case = case.when(~test, words)
    return case
