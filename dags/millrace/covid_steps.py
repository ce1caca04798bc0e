"""The tasks of `covid_etl`; what one hands to the next is a file of the run's own in the storage: XCom is small."""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from millrace.errors import MillraceError
from millrace.intervals import interval_of

STAGING = ("staging", "covid_etl")

log = logging.getLogger(__name__)


def extract(context: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch the figures of the run's days; return how many, and which series are missing."""
    from millrace import covid, storage
    from millrace.covid_api import Api, base_url
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        params, days = context["params"], days_of(context)
        with Api(base_url()) as api:
            found = covid.extract(api, days, params["geography_types"], params["metrics"])
        storage.write_json(found["figures"], *_place(context, "extracted.json"))
    log.info("%d figures from %s to before %s", len(found["figures"]), days.first, days.end)
    return {"figures": len(found["figures"]), "missing": found["missing"]}


def transform(context: Mapping[str, Any]) -> dict[str, int]:
    """Turn figures into rows; return how many are fit, rejected and duplicates. Fails if too many are rejected."""
    from millrace import covid, storage
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        made = covid.transform(_staged(context, "extracted.json"))
        for item in made["rejected"]:
            log.warning("Not used, %s: %s", item["reason"], item["figure"])
        covid.check_share(len(made["rows"]), made["rejected"])
        storage.write_json(made, *_place(context, "transformed.json"))
    return {name: len(items) for name, items in made.items()}


def load(context: Mapping[str, Any]) -> dict[str, int]:
    """Send changes to the topic and replace the days in the table."""
    from millrace import covid, kafka
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        return covid.load(
            _staged(context, "transformed.json"), days_of(context), as_of(context), kafka.connection_config()
        )


def validate(loaded: Mapping[str, int], context: Mapping[str, Any]) -> dict[str, Any]:
    """Check the table; the run's files have then done their work."""
    from millrace import covid, storage
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        found = covid.validate(days_of(context), loaded["rows"])
        storage.delete_tree(*_place(context))
    return found


def days_of(context: Mapping[str, Any]) -> Any:
    """Return the days that the run loads."""
    from millrace.covid import Days

    return Days.of_interval(*interval_of(context), int(context["params"]["revision_days"]))


def as_of(context: Mapping[str, Any]) -> datetime:
    """Return up to when the run's extraction reaches: the same for each of its tries."""
    return interval_of(context)[1]


def _place(context: Mapping[str, Any], *file: str) -> tuple[str, ...]:
    from millrace import storage

    return (*STAGING, storage.run_folder(context["run_id"]), *file)


def _staged(context: Mapping[str, Any], file: str) -> Any:
    from millrace import storage

    found = storage.read_json(*_place(context, file))
    if found is None:
        raise MillraceError(
            f"{storage.url(*_place(context, file))} is gone: clear the run from its first task, "
            "so that it is made again."
        )
    return found
