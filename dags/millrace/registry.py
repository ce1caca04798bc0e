"""The model registry: versions of a model that never change, and names such as `production` for one of them.

Below MILLRACE_STORAGE, on a disk or on S3:

    models/<model>/versions/<N>/model.joblib     the fitted model
    models/<model>/versions/<N>/metadata.json    what it is, how good, from which run; its file's SHA-256
    models/<model>/aliases.json                  {"production": 3, "previous": 2}

The metadata are written last, so a version without them was cut short and does not count. All aliases are in one file
that is replaced as a whole: whoever reads it sees those before or those after. A model has one writer: the DAG that
trains it, which has one run at a time (docs/decisions/0015-a-model-registry-of-files.md).
"""

import hashlib
import io
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from millrace import storage
from millrace.errors import MillraceError

FOLDER = "models"
PRODUCTION, PREVIOUS = "production", "previous"
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Version:
    """One version of a model."""

    model: str
    number: int
    metadata: Mapping[str, Any]


def dump(estimator: Any) -> bytes:
    """Return a fitted model as a file's content."""
    import joblib

    buffer = io.BytesIO()
    joblib.dump(estimator, buffer, compress=3)
    return buffer.getvalue()


def register(model: str, content: bytes, source: str, metadata: Mapping[str, Any]) -> Version:
    """Add a version, and return it; what `source` (a run) has registered before with the same content is returned
    instead.

    Raises MillraceError if the model's name can't be one, or the storage refuses.
    """
    if not NAME.fullmatch(model):
        raise MillraceError(f"{model!r} can't be a model's name: use up to 63 lower case letters, digits and hyphens.")
    digest = hashlib.sha256(content).hexdigest()
    known = versions(model)
    for version in known:
        if version.metadata["source"] == source and version.metadata["sha256"] == digest:
            return version
    number = max((version.number for version in known), default=0) + 1
    facts = {
        **metadata,
        "model": model,
        "version": number,
        "source": source,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "bytes": len(content),
        "sha256": digest,
    }
    storage.write_bytes(content, *_folder(model, number), "model.joblib")
    storage.write_json(facts, *_folder(model, number), "metadata.json")
    return Version(model, number, facts)


def versions(model: str) -> list[Version]:
    """Return all versions of a model, oldest first."""
    folder = storage.path(FOLDER, model, "versions")
    numbers = sorted(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit()) if folder.exists() else []
    found = ((number, storage.read_json(*_folder(model, number), "metadata.json")) for number in numbers)
    return [Version(model, number, metadata) for number, metadata in found if metadata is not None]


def aliases(model: str) -> dict[str, int]:
    """Return which version each alias of a model means."""
    return storage.read_json(FOLDER, model, "aliases.json") or {}


def promote(model: str, number: int) -> dict[str, int]:
    """Make a version `production`, and what was that before `previous`; return all aliases.

    Promoting what is in production changes nothing; promoting `previous` takes a bad model back. Raises MillraceError
    if there is no such version.
    """
    find(model, number)
    before = aliases(model)
    if before.get(PRODUCTION) == number:
        return before
    after = {**before, PRODUCTION: number}
    if PRODUCTION in before:
        after[PREVIOUS] = before[PRODUCTION]
    storage.write_json(after, FOLDER, model, "aliases.json")
    return after


def find(model: str, which: int | str = PRODUCTION) -> Version:
    """Return a version by its number or by an alias. Raises MillraceError if there is none."""
    number = which if isinstance(which, int) else aliases(model).get(which)
    for version in versions(model):
        if version.number == number:
            return version
    raise MillraceError(f"The registry has no version {which} of {model}: run the DAG that trains it first.")


def load(model: str, which: int | str = PRODUCTION) -> Any:
    """Return a fitted model, by a version's number or an alias.

    Raises MillraceError if there is none, or its file is not the one that was registered: a pickle from elsewhere
    could do anything, so it is not opened.
    """
    version = find(model, which)
    place = "/".join([*_folder(model, version.number), "model.joblib"])
    return restore(storage.read_bytes(place), version.metadata["sha256"], place)


def restore(content: bytes, sha256: str, place: str) -> Any:
    """Return the fitted model that `dump` made. Raises MillraceError if the content isn't that with this SHA-256."""
    import joblib

    if hashlib.sha256(content).hexdigest() != sha256:
        raise MillraceError(
            f"{place} is not what was written there (its SHA-256 differs): it is not loaded; train anew."
        )
    return joblib.load(io.BytesIO(content))


def _folder(model: str, number: int) -> tuple[str, ...]:
    return (FOLDER, model, "versions", str(number))
