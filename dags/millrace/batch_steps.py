"""The Python tasks of `batch_layer`: aggregate, train, report. Imports that take long are inside of the functions."""

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)

MODEL = "events-by-hour"


def aggregate_windows(asset: Any, context: Mapping[str, Any]) -> dict[str, Any]:
    """Take the hours of the newest verified run into the history; return what became of them.

    Raises AirflowFailException if the stream's table has another range by now than the one that was handed over: the
    run for that one is still to come.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import batch
    from millrace.operators.base import one_sentence

    with one_sentence(log):
        now = batch.current_range()
        handed = handed_over(asset, context)
        if handed is not None and handed != now:
            raise AirflowFailException(
                f"The windows of {handed.key} were handed over, but the stream is at {now.key} by now: "
                "nothing is taken over."
            )
        done = batch.aggregate(now)
    for old in done["replaced"]:
        log.warning("The history of %s is replaced: it overlaps %s, and no event may count twice", old, done["range"])
    log.info("%s: %d events in %d rows", done["range"], done["events"], done["rows"])
    return done


def handed_over(asset: Any, context: Mapping[str, Any]) -> Any:
    """Return the range that the newest event of an asset names; None if a person has started the run."""
    from millrace.batch import parse_range

    events = (context.get("triggering_asset_events") or {}).get(asset) or []
    keys = [event.extra["range"] for event in events if "range" in (event.extra or {})]
    return parse_range(keys[-1]) if keys else None


def train_forecast(context: Mapping[str, Any]) -> dict[str, Any]:
    """Train the forecast on the history; deploy it if it beats the naive ones. Returns its errors, and the version or
    None.

    Raises AirflowSkipException where the history is too short: that is no fault.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    from millrace import batch, forecast, registry, staging
    from millrace.errors import MillraceError
    from millrace.operators.base import one_sentence

    dag_id, run_id = context["dag"].dag_id, str(context["run_id"])
    with one_sentence(log):
        history = batch.history()
        try:
            found = forecast.train(history)
        except MillraceError as error:
            log.warning("%s", error)
            raise AirflowSkipException(str(error)) from None
        place = staging.write(found.hold_out, dag_id, run_id, "forecast")
        figures = {
            "error": found.error,
            "same_as_yesterday": found.same_as_yesterday,
            "same_as_last_week": found.same_as_last_week,
        }
        version = None
        if found.useful:
            content = registry.dump(found.model)
            facts = {
                "kind": "gradient-boosting",
                "types": list(found.types),
                "inputs": list(forecast.INPUTS),
                **figures,
            }
            registered = registry.register(MODEL, content, f"{dag_id}/{run_id}", facts)
            registry.promote(MODEL, registered.number)
            version = registered.number
    verdict = f"version {version} is in production" if version else "it is no better, and is not deployed"
    log.info("Off by %.2f events an hour, the better naive forecast by %.2f: %s", found.error, found.naive, verdict)
    return {**figures, "version": version, "hold_out": place}


def write_reports(aggregated: Mapping[str, Any], trained: Mapping[str, Any] | None, context: Mapping[str, Any]) -> dict:
    """Write report.html and summary.json to `reports/batch_layer/<run>/`; return where they are."""
    from millrace import batch, batch_report, staging, storage
    from millrace.operators.base import one_sentence

    dag_id, run_id = context["dag"].dag_id, str(context["run_id"])
    folder = ("reports", dag_id, storage.run_folder(run_id))
    with one_sentence(log):
        hours = batch.serve()
        summary = {
            "range": aggregated["range"],
            "events of this range": aggregated["events"],
            "ranges replaced": ", ".join(aggregated["replaced"]) or "none",
            "ranges in the history": ", ".join(each.key for each in batch.known_ranges()),
            "events in all": int(hours["events"].sum()),
            "forecast": {key: value for key, value in (trained or {}).items() if key != "hold_out"}
            or "history too short",
        }
        held = staging.read(trained["hold_out"]) if trained else None
        page = storage.write_text(batch_report.render(hours, held, summary, dag_id, run_id), *folder, "report.html")
        storage.write_json(summary, *folder, "summary.json")
        staging.clear(dag_id, run_id)
    log.info("Report: %s", storage.local_file(page))
    return {"report": storage.local_file(page)}
