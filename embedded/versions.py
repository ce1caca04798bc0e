"""Read versions.yaml, the one place that pins Kafka, Spark, Java and the rest."""

from functools import cache
from typing import Any

import yaml

from embedded.paths import REPOSITORY


@cache
def versions() -> dict[str, Any]:
    """The content of versions.yaml."""
    return yaml.safe_load((REPOSITORY / "versions.yaml").read_text())
