"""Names, labels and annotations as Kubernetes accepts them."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from millrace.errors import MillraceError

PREFIX = "millrace.io"
OWNER = f"{PREFIX}/owner"
"""Annotation: `<dag id>/<run id>`, in full."""
RUN_VARIABLE = "MILLRACE_RUN"
"""Environment variable of what a task starts: the same as OWNER, for the lines of its log."""
LONGEST_LABEL = 63
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def require_name(name: str, where: str) -> str:
    """Return a name that can name an object and what is made for it. Raises MillraceError for any other."""
    if not _NAME.fullmatch(name):
        raise MillraceError(
            f"{where} has the name {name!r}, which Kubernetes does not accept: use at most 63 lower-case letters, "
            "digits and '-', a letter first and no '-' last."
        )
    return name


def label_value(text: str) -> str:
    """Return a text as a label's value: other characters become `-`; a long one is cut, and a hash keeps it apart."""
    value = re.sub(r"[^A-Za-z0-9_.-]", "-", text)
    if len(value) > LONGEST_LABEL:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        value = f"{value[: LONGEST_LABEL - len(digest) - 1]}-{digest}"
    return value.strip("-_.")


def object_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return what a task tells of itself (`dag-id`, ...) as labels of an object."""
    return {f"{PREFIX}/{key}": label_value(value) for key, value in labels.items()}


def annotation(found: Mapping[str, Any], name: str) -> str | None:
    """Return an annotation of an object, or None if it has none of that name."""
    return (found["metadata"].get("annotations") or {}).get(name)
