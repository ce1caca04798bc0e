"""The Python tasks of `feature_engineering`: extract, compute, validate, store.

Imports that take long are inside of the functions.
"""

import logging
from collections.abc import Mapping
from datetime import date
from typing import Any

from millrace.errors import MillraceError
from millrace.features import DAY, FEATURE_SETS, FeatureSet

log = logging.getLogger(__name__)


def extract_flights(context: Mapping[str, Any]) -> dict[str, Any]:
    """Stage flights and weather of the run's days; return which days, and the places of both tables."""
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import flight_features, staging
    from millrace.operators.base import one_sentence
    from millrace.verification import connection

    params, dag_id, run_id = context["params"], context["dag"].dag_id, context["run_id"]
    try:
        days = flight_features.days_of(params["from_date"], int(params["days"]), context.get("logical_date"))
    except MillraceError as error:
        log.error("%s", error)
        raise AirflowFailException(str(error)) from None  # Asking again changes nothing.
    with one_sentence(log), connection() as database:
        counts = flight_features.extract(database, days)
        places = {name: staging.write(database.table(name), dag_id, run_id, name) for name in counts}
    log.info("%s, and the day before: %d flights, %d observations", days, counts["flights"], counts["weather"])
    return {"first": str(days.first), "days": days.number, **places}


def compute_features(name: str, extracted: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Stage one set of features, computed from what was extracted; return its place and its rows."""
    from millrace import flight_features, staging
    from millrace.operators.base import one_sentence
    from millrace.verification import connection

    feature_set = _named(name)
    with one_sentence(log), connection() as database:
        for table in ("flights", "weather"):
            staging.load(database, extracted[table], table)
        rows = flight_features.compute(database, feature_set, _days(extracted))
        place = staging.write(rows, context["dag"].dag_id, context["run_id"], feature_set.table)
        number = len(rows)
    log.info("%s: %d rows", feature_set.table, number)
    return {"place": place, "rows": number}


def validate_features(name: str, extracted: Mapping[str, Any], computed: Mapping[str, Any]) -> dict[str, Any]:
    """Hold a staged set against what it promises; return what was computed.

    Raises AirflowFailException, in one sentence, if it doesn't hold: computing it again would give the same.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import staging
    from millrace.feature_quality import problems
    from millrace.operators.base import one_sentence

    feature_set, days = _named(name), _days(extracted)
    with one_sentence(log):
        found = problems(staging.read(computed["place"]), feature_set, days)
    if found:
        message = f"{feature_set.table} for {days} is not stored: {'; '.join(found)}."
        log.error("%s", message)
        raise AirflowFailException(message)
    log.info("%s for %s is fit for the store", feature_set.table, days)
    return dict(computed)


def store_features(name: str, extracted: Mapping[str, Any], valid: Mapping[str, Any]) -> dict[str, Any]:
    """Put a set's rows in the place of those of the same days; return the table and the number of rows."""
    from millrace import staging, tables
    from millrace.operators.base import one_sentence

    feature_set, days = _named(name), _days(extracted)
    with one_sentence(log):
        tables.replace(feature_set.table, staging.read(valid["place"]), days.predicate(), [DAY])
    log.info("%s: %d rows for %s", feature_set.table, valid["rows"], days)
    return {"table": feature_set.table, "rows": valid["rows"]}


def clear_staging(context: Mapping[str, Any]) -> None:
    """Delete what the run has staged."""
    from millrace import staging
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        staging.clear(context["dag"].dag_id, context["run_id"])


def _named(name: str) -> FeatureSet:
    return next(feature_set for feature_set in FEATURE_SETS if feature_set.name == name)


def _days(extracted: Mapping[str, Any]) -> Any:
    from millrace.flight_features import Days

    return Days(date.fromisoformat(extracted["first"]), extracted["days"])
