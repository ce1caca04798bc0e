"""What the tests of the chart share: definitions of the resources that it renders."""

from typing import Any

import pytest

from tests.definitions import kafka_definitions


@pytest.fixture(scope="session")
def definitions() -> dict[str, dict[str, Any]]:
    """CustomResourceDefinitions by kind."""
    return kafka_definitions()
