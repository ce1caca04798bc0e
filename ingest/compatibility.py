"""Which changes of a contract are allowed: a new version may add optional fields, and nothing else.

Full compatibility is the only kind that lets readers and writers be updated in any order: messages of the
old version are valid in the new one, and messages of the new one are valid in the old one once the added
fields are ignored.
"""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

from ingest.contracts import Schema, load, versions
from ingest.errors import BadInputError

# Words for people: they may change at any time.
_ANNOTATIONS = frozenset({"title", "description", "$comment", "examples", "$id"})
_RELEASED = "released.json"


def without_annotations(schema: Any) -> Any:
    """Return a schema without the words that are for people only."""
    if isinstance(schema, list):
        return [without_annotations(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    stripped = {}
    for key, value in schema.items():
        if key == "properties":  # a field may well be called "title"
            stripped[key] = {name: without_annotations(field) for name, field in value.items()}
        elif key not in _ANNOTATIONS:
            stripped[key] = without_annotations(value)
    return stripped


def fingerprint(schema: Schema) -> str:
    """Return the SHA-256 of what a schema means, independent of words for people and of key order."""
    canonical = json.dumps(without_annotations(schema), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def incompatibilities(old: Schema, new: Schema) -> list[str]:
    """Return one sentence for each change that breaks readers of either; empty if there is none."""
    before, after = without_annotations(old), without_annotations(new)
    problems = _required_changes(before, after)
    fields_before, fields_after = before.get("properties", {}), after.get("properties", {})
    for name, field in fields_before.items():
        if name not in fields_after:
            problems.append(f"field {name} was removed: messages that hold it would be refused.")
        elif name != "schema_version" and fields_after[name] != field:
            problems.append(f"field {name} {_field_change(field, fields_after[name])}.")
    for keyword in sorted((before.keys() | after.keys()) - {"properties", "required"}):
        if before.get(keyword) != after.get(keyword):
            problems.append(f"{keyword} changed from {before.get(keyword)!r} to {after.get(keyword)!r}.")
    return problems


def _required_changes(before: Schema, after: Schema) -> list[str]:
    old, new = set(before.get("required", [])), set(after.get("required", []))
    return [f"field {name} is no longer required: old readers rely on it." for name in sorted(old - new)] + [
        f"field {name} became required: old messages may lack it." for name in sorted(new - old)
    ]


def _field_change(before: Schema, after: Schema) -> str:
    for keyword, noun in (("enum", "value"), ("type", "type")):
        old, new = _as_list(before.get(keyword)), _as_list(after.get(keyword))
        lost, gained = [v for v in old if v not in new], [v for v in new if v not in old]
        if lost and new:
            return f"lost the {noun} {', '.join(map(str, lost))}: old messages that hold it would be refused"
        if gained and old:
            return f"gained the {noun} {', '.join(map(str, gained))}: old readers would refuse it"
    return f"changed from {json.dumps(before)} to {json.dumps(after)}: add a new field instead"


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def topics_with_contracts(root: Path) -> list[str]:
    """Return the topics that have a contract, sorted; raises BadInputError if there is no such folder."""
    if not root.is_dir():
        raise BadInputError(f"there is no folder of contracts at {root}: set MILLRACE_CONTRACTS to it.")
    return sorted(p.name for p in root.iterdir() if p.is_dir() and versions(p.name, root))


def released(root: Path) -> dict[str, str]:
    """Return the fingerprints of the released versions by `topic/vN`; empty if nothing was released."""
    path = root / _RELEASED
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def problems_of(root: Path) -> list[str]:
    """Return one sentence for each rule of `contracts/README.md` that the folder breaks."""
    problems, present = [], {}
    for topic in topics_with_contracts(root):
        numbers = versions(topic, root)
        schemas = {number: load(topic, number, root).schema for number in numbers}
        if numbers != list(range(1, len(numbers) + 1)):
            problems.append(f"{topic}: versions must be numbered 1, 2, 3 without a gap; there are {numbers}.")
        for number, schema in schemas.items():
            present[f"{topic}/v{number}"] = fingerprint(schema)
            if schema.get("properties", {}).get("schema_version", {}).get("const") != number:
                problems.append(f"{topic}/v{number}.json: schema_version must be the constant {number}.")
        for older, newer in itertools.pairwise(numbers):
            found = incompatibilities(schemas[older], schemas[newer])
            problems += [f"{topic}/v{newer}.json: {problem}" for problem in found]
    for name, known in released(root).items():
        if name not in present:
            problems.append(f"{name}.json was released and is gone: put it back.")
        elif present[name] != known:
            problems.append(f"{name}.json was released and changed: put it back and write the next version instead.")
    return problems


def release(root: Path) -> list[str]:
    """Record new versions in `released.json` and return their names; raises BadInputError on problems."""
    problems = problems_of(root)
    if problems:
        raise BadInputError("nothing was released: " + " ".join(problems))
    known = released(root)
    every = {
        f"{topic}/v{number}": fingerprint(load(topic, number, root).schema)
        for topic in topics_with_contracts(root)
        for number in versions(topic, root)
    }
    (root / _RELEASED).write_text(json.dumps(every, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return sorted(every.keys() - known.keys())
