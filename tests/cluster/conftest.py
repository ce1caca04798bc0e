"""One cluster for all tests of this folder, with everything installed in it (platform.py)."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.plugin import *  # noqa: F403 - fixtures, and the table of times
from tests.cluster.plugin import put_in_order
from tests.cluster.providers import ProvidedCluster, UnavailableError, provided

FOLDER = Path(__file__).parent
TEST_SECONDS = 1800
"""The first test also builds images and programs, and installs everything."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    put_in_order(items)


@pytest.fixture(scope="session")
def cluster() -> Iterator[ProvidedCluster]:
    """The cluster that CLUSTER names: local (the default), kind or existing."""
    # An end that is asked for by `kill` is as orderly as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with provided(os.environ.get("CLUSTER", "local")) as cluster:
            yield cluster
    except UnavailableError as error:
        pytest.exit(str(error), returncode=2)
