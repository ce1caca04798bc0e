"""A run's data interval, as plain datetimes in UTC."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def interval_of(context: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Return from when to before when a run's data lies.

    Airflow hands out Pendulum's datetimes, whose differences don't divide by a timedelta.
    """
    return _plain(context["data_interval_start"]), _plain(context["data_interval_end"])


def _plain(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp(), UTC)
