"""What the tests of the chart share: definitions of the resources that it renders."""

import os
from pathlib import Path
from typing import Any

import pytest

from embedded import jars
from embedded.java import find_java
from embedded.paths import REPOSITORY
from tests.charts.schemas import strimzi_definitions


@pytest.fixture(scope="session")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """CustomResourceDefinitions by kind."""
    bundled = {name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "PATH")}
    java = find_java({**bundled, "PATH": ""})  # the generator needs 21 or later; the Java that came as a wheel is 25
    cache = Path(os.environ.get("MILLRACE_JARS_CACHE") or REPOSITORY / ".millrace" / "jars")
    directory = jars.fetch(java, cache, names=["strimzi"])["strimzi"]
    return strimzi_definitions(java, directory, tmp_path_factory.mktemp("definitions"))
