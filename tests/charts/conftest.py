"""What the tests of the chart share: definitions of the resources that it renders."""

from typing import Any

import pytest

from embedded import jars
from embedded.java import find_java
from embedded.settings import load_settings
from tests.charts.schemas import strimzi_definitions


@pytest.fixture(scope="session")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """CustomResourceDefinitions by kind."""
    java = find_java({"PATH": ""})  # the generator needs 21 or later; the Java that came as a wheel is 25
    directory = jars.fetch(java, load_settings().jars, names=["strimzi"])["strimzi"]
    return strimzi_definitions(java, directory, tmp_path_factory.mktemp("definitions"))
