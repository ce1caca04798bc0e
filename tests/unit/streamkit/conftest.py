from pathlib import Path

import pytest

from streamkit.contracts import Contract, load_contract
from tests.unit.spark_session import spark

__all__ = ["spark"]

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def contract() -> Contract:
    return load_contract(REPOSITORY / "contracts/events")
