"""The Python tasks of `ml_training`: download, preprocess, train, evaluate, deploy, notify.

Tables and models travel as files of the run's staging, their places and figures by XCom. Imports that take long are
inside.
"""

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.errors import MillraceError

log = logging.getLogger(__name__)


def download_data(context: Mapping[str, Any]) -> dict[str, Any]:
    """Stage the run's data set; return its place and size."""
    from datetime import date

    from millrace import datasets, staging
    from millrace.flight_features import Days
    from millrace.operators.base import one_sentence

    params = context["params"]
    with one_sentence(log):
        days = Days(date.fromisoformat(params["from_date"]), int(params["days"]))
        data = datasets.download(params["data_set"], days, int(params["late_minutes"]))
        place = staging.write(data.frame, context["dag"].dag_id, context["run_id"], "data")
    log.info("%s: %d rows, %d columns", params["data_set"], *data.frame.shape)
    return {"place": place, "rows": data.frame.height, "in_time": data.in_time}


def preprocess_data(downloaded: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Stage the training rows and the hold-out; return their places and sizes."""
    from millrace import staging, training
    from millrace.datasets import DataSet
    from millrace.operators.base import one_sentence

    dag_id, run_id = context["dag"].dag_id, context["run_id"]
    with one_sentence(log):
        data = DataSet(staging.read(downloaded["place"]), downloaded["in_time"])
        parts = training.preprocess(data, float(context["params"]["hold_out"]))
        train, hold_out = (
            staging.write(rows, dag_id, run_id, name)
            for name, rows in (("train", parts.train), ("hold-out", parts.hold_out))
        )
    log.info("%d rows to train on, %d held out", parts.train.height, parts.hold_out.height)
    return {
        "train": train,
        "hold_out": hold_out,
        "in_time": data.in_time,
        "rows": {"train": parts.train.height, "hold_out": parts.hold_out.height, "dropped": parts.dropped_rows},
        "features": len(parts.train.columns) - 1,
        "dropped_columns": list(parts.dropped_columns),
    }


def train_model(model: str, prepared: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Fit one model; return the place of its file, the file's SHA-256, and its accuracy among the training rows."""
    from millrace import registry, staging, training
    from millrace.operators.base import one_sentence

    began = time.monotonic()
    with one_sentence(log):
        fitted, score = training.fit(model, staging.read(prepared["train"]), prepared["in_time"])
        content = registry.dump(fitted)
        place = staging.write_file(content, context["dag"].dag_id, context["run_id"], f"{model}.joblib")
    seconds = round(time.monotonic() - began, 1)
    log.info("%s: accuracy %.4f on rows of the training part that it hadn't seen, in %s s", model, score, seconds)
    digest = hashlib.sha256(content).hexdigest()
    return {"model": model, "place": place, "sha256": digest, "cross_validation": score, "seconds": seconds}


def evaluate_models(
    trained: Sequence[Mapping[str, Any]], prepared: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, Any]:
    """Choose the model that did best among the training rows, and judge it by the hold-out; return it with all figures.

    The hold-out only judges: to choose by it as well would make its own figure too good. Raises AirflowFailException,
    in one sentence, if the accuracy is below the run's threshold: nothing is deployed then.
    """
    from airflow.sdk.exceptions import AirflowFailException

    from millrace import staging, training
    from millrace.operators.base import one_sentence

    threshold = float(context["params"]["threshold"])
    with one_sentence(log):
        hold_out = staging.read(prepared["hold_out"])
        always = training.baseline(staging.read(prepared["train"]), hold_out)
        scores = {each["model"]: training.accuracy(_restore(each), hold_out) for each in trained}
    best = max(trained, key=lambda each: (each["cross_validation"], each["model"]))
    for each in trained:
        name = each["model"]
        log.info("%s: %.4f cross-validated, %.4f on the hold-out", name, each["cross_validation"], scores[name])
    found = scores[best["model"]]
    if found < threshold:
        message = (
            f"Nothing is deployed: {best['model']}, the best of {len(trained)}, is right for {found:.1%} of the "
            f"{hold_out.height} rows held out, and deployment needs {threshold:.1%} "
            f"(always saying the commonest label: {always:.1%})."
        )
        log.error("%s", message)
        raise AirflowFailException(message)
    return {**best, "accuracy": found, "baseline": always, "threshold": threshold, "hold_out": scores}


def deploy_model(
    evaluated: Mapping[str, Any], prepared: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, Any]:
    """Register the chosen model as a new version, and make that `production`; return the version and the aliases."""
    from importlib.metadata import version

    from millrace import registry, storage
    from millrace.operators.base import one_sentence

    params = context["params"]
    with one_sentence(log):
        _restore(evaluated)  # What is registered is what was judged.
        registered = registry.register(
            params["data_set"],
            storage.read_bytes(evaluated["place"]),
            source=f"{context['dag'].dag_id}/{context['run_id']}",
            metadata={
                "kind": evaluated["model"],
                "accuracy": evaluated["accuracy"],
                "baseline": evaluated["baseline"],
                "cross_validation": evaluated["cross_validation"],
                "hold_out": evaluated["hold_out"],
                "rows": prepared["rows"],
                "params": dict(params),
                "scikit-learn": version("scikit-learn"),
            },
        )
        aliases = registry.promote(registered.model, registered.number)
    log.info("%s version %d is in production", registered.model, registered.number)
    return {"model": registered.model, "version": registered.number, "aliases": aliases}


def notify_deployment(
    deployed: Mapping[str, Any], evaluated: Mapping[str, Any], context: Mapping[str, Any]
) -> dict[str, str]:
    """Tell people which model is in production now; return what became of each channel."""
    from millrace.callbacks import run_link
    from millrace.notifications import Notice, notify

    dag_id, run_id = context["dag"].dag_id, str(context["run_id"])
    facts = {
        "Model": f"{evaluated['model']}, right for {evaluated['accuracy']:.1%} of what was held out",
        "Always the commonest": f"{evaluated['baseline']:.1%}",
        "Before": str(deployed["aliases"].get("previous", "none")),
    }
    subject = f"{deployed['model']} version {deployed['version']} is in production"
    return notify(
        Notice(
            key=f"{dag_id}/{run_id}/deployed",
            subject=subject,
            facts=facts,
            severity="info",
            link=run_link(dag_id, run_id),
        )
    )


def _restore(trained: Mapping[str, Any]) -> Any:
    from millrace import registry, storage

    try:
        return registry.restore(storage.read_bytes(trained["place"]), trained["sha256"], trained["place"])
    except (ImportError, AttributeError) as error:
        raise MillraceError(f"{trained['place']} needs what isn't installed here ({error}): train anew.") from error
