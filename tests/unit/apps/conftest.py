"""An app as a module: its folder's name is no name of a Python package."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.spark_session import spark

__all__ = ["spark"]

APPS = Path(__file__).parents[3] / "spark-apps"


@pytest.fixture(scope="session")
def app() -> Callable[[str], ModuleType]:
    """Import the app.py of the app with the given name."""

    def load(name: str) -> ModuleType:
        module = f"app_{name.replace('-', '_')}"
        if module not in sys.modules:
            spec = importlib.util.spec_from_file_location(module, APPS / name / "app.py")
            assert spec and spec.loader
            sys.modules[module] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[module])
        return sys.modules[module]

    return load
