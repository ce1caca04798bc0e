"""The images, built once for all tests that look into them."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.builder import Container, Store, why_not
from tests.images.dockerfiles import IMAGES, name_of


@pytest.fixture(scope="session")
def store() -> Iterator[Store]:
    """A store with the base and our images; removed afterwards, unless MILLRACE_IMAGE_STORE names one to keep."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    kept = os.environ.get("MILLRACE_IMAGE_STORE")
    directory = Path(kept).absolute() if kept else Path(tempfile.mkdtemp(prefix="millrace-images-", dir="/var/tmp"))
    store = Store(directory, kept=bool(kept))
    try:
        store.make_base()
        for image in IMAGES:
            store.build(image)
        yield store
    finally:
        if not kept:
            store.remove()


def _container(store: Store, image: str) -> Iterator[Container]:
    container = Container(store, name_of(image))
    yield container
    container.remove()


@pytest.fixture(scope="session")
def airflow(store: Store) -> Iterator[Container]:
    yield from _container(store, "airflow")


@pytest.fixture(scope="session")
def spark(store: Store) -> Iterator[Container]:
    yield from _container(store, "spark")


@pytest.fixture(scope="session")
def ingest(store: Store) -> Iterator[Container]:
    yield from _container(store, "ingest")
