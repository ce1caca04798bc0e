"""What tasks read and write, by the names that the scheduler and the lineage know them by.

An asset starts the DAGs that wait for it. A `File` is what OpenLineage calls a dataset: its scheme becomes the
namespace, so that `delta://event_windows` is the same table wherever the storage is. Nothing here looks at either.
"""

from typing import Any

from airflow.providers.common.compat.lineage.entities import File
from airflow.sdk import Asset

EVENT_WINDOWS = Asset("event_windows", extra={"is": "a Delta table"})
"""The windows of a whole, verified run of `streaming_pipeline`."""
EVENT_HOURS = Asset("event_hours", extra={"is": "a Delta table"})
"""What `batch_layer` made of them."""


def table(name: str) -> File:
    """Return a Delta table, for inlets and outlets."""
    return File(url=f"delta://{name}")


def topic(name: str) -> File:
    """Return a Kafka topic, for inlets and outlets."""
    return File(url=f"kafka://{name}")


def package(name: str) -> File:
    """Return a data set that a Python package ships, for inlets."""
    return File(url=f"pypi://{name}")


def model(name: str) -> File:
    """Return a model of the registry, for inlets and outlets."""
    return File(url=f"model://{name}")


def feature_asset(table_name: str) -> Asset:
    """Return the asset of a feature table."""
    return Asset(table_name, extra={"is": "a feature table"})


def both(asset: Asset) -> list[Any]:
    """Return an asset of a Delta table with the data set of the same name: for outlets."""
    return [asset, table(asset.name)]
