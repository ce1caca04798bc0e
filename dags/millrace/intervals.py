"""A run's data interval, as plain datetimes in UTC."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from jinja2 import pass_context


def interval_of(context: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Return from when to before when a run's data lies.

    A run that was triggered without a logical date, as `airflow dags trigger` and the REST API do by default, has no
    interval of its own: it gets the newest one of its DAG's schedule that was over when it was triggered.

    Airflow hands out Pendulum's datetimes, whose differences don't divide by a timedelta.
    """
    if "data_interval_start" in context:
        return _plain(context["data_interval_start"]), _plain(context["data_interval_end"])
    timetable = context["dag"].timetable
    return newest_interval(timetable.expression, str(timetable.timezone), context["dag_run"].run_after)


@pass_context
def interval_end(context: Mapping[str, Any]) -> datetime:
    """Return the end of `interval_of`; the macro of that name in templates."""
    return interval_of(context)[1]


def newest_interval(expression: str, timezone: str, moment: datetime) -> tuple[datetime, datetime]:
    """Return the newest interval between two times of a cron expression that is over at a moment.

    The same as what Airflow's CronDataIntervalTimetable infers for a run that is triggered with a logical date.
    """
    from zoneinfo import ZoneInfo

    from croniter import croniter

    zone = ZoneInfo(timezone)
    clock = moment.astimezone(zone).replace(tzinfo=None)
    # It looks for what is strictly before, and the moment itself may be the end; it knows no time zones.
    times = croniter(expression, clock + timedelta(microseconds=1), ret_type=datetime)
    end, start = times.get_prev(), times.get_prev()
    return _plain(start.replace(tzinfo=zone)), _plain(end.replace(tzinfo=zone))


def _plain(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp(), UTC)
