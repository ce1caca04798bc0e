"""Trains models and says how good they are; pure functions on tables, nothing of Airflow or of the storage."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.datasets import LABEL, DataSet
from millrace.errors import MillraceError

if TYPE_CHECKING:
    import polars as pl

LOGISTIC_REGRESSION, RANDOM_FOREST, GRADIENT_BOOSTING = "logistic-regression", "random-forest", "gradient-boosting"
MODELS = (LOGISTIC_REGRESSION, RANDOM_FOREST, GRADIENT_BOOSTING)
FOLDS = 3
SEED = 20130101
"""Of everything that draws: the same data give the same models."""
FEWEST_ROWS = 100


@dataclass(frozen=True)
class Parts:
    """A data set, cleaned and cut in two. The hold-out is seen by no model before it is judged."""

    train: "pl.DataFrame"
    hold_out: "pl.DataFrame"
    dropped_columns: tuple[str, ...]
    """Columns that say nothing: with one value only."""
    dropped_rows: int
    """Rows without a label, or that are there twice."""


def preprocess(data: DataSet, hold_out_share: float) -> Parts:
    """Clean a data set and cut off the hold-out: the newest rows, or where time means nothing a part with the same
    labels.

    What is learnt from the data (means, medians, scales) is part of each model, and learnt from its training rows only.
    Raises MillraceError if too little is left to train on.
    """
    frame = data.frame.filter(data.frame[LABEL].is_not_null())
    if not data.in_time:  # The same flight data twice are two flights; the same measurements twice are one.
        frame = frame.unique(maintain_order=True)
    dull = tuple(name for name in frame.columns if name != LABEL and frame[name].n_unique() < 2)
    kept = frame.drop(dull)
    if kept.height < FEWEST_ROWS or kept[LABEL].n_unique() < 2:
        raise MillraceError(
            f"There are {kept.height} rows with {kept[LABEL].n_unique()} kinds of label, too few to train a model "
            "and judge it: choose more days."
        )
    train, hold_out = _cut(kept, hold_out_share, data.in_time)
    return Parts(train, hold_out, dull, data.frame.height - frame.height)


def _cut(frame: "pl.DataFrame", share: float, in_time: bool) -> tuple["pl.DataFrame", "pl.DataFrame"]:
    if in_time:
        newest = round(frame.height * share)
        return frame.head(-newest), frame.tail(newest)
    import numpy as np
    from sklearn.model_selection import train_test_split

    numbers = np.arange(frame.height)
    left, right = train_test_split(numbers, test_size=share, stratify=frame[LABEL].to_numpy(), random_state=SEED)
    return frame[left], frame[right]


def estimator(model: str) -> Any:
    """Return a model that has not learnt anything yet. Raises MillraceError if there is none of that name."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if model == LOGISTIC_REGRESSION:
        return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(max_iter=1000))
    if model == RANDOM_FOREST:
        forest = RandomForestClassifier(n_estimators=100, min_samples_leaf=2, random_state=SEED)
        return make_pipeline(SimpleImputer(strategy="median"), forest)
    if model == GRADIENT_BOOSTING:
        return HistGradientBoostingClassifier(early_stopping=False, max_iter=60, random_state=SEED)
    raise MillraceError(f"There is no model {model}: choose from {', '.join(MODELS)}.")


def fit(model: str, train: "pl.DataFrame", in_time: bool) -> tuple[Any, float]:
    """Return the model, fitted to all training rows, and its accuracy by cross-validation among them."""
    from sklearn.model_selection import StratifiedKFold, TimeSeriesSplit, cross_val_score
    from threadpoolctl import threadpool_limits

    inputs, labels = matrix(train), train[LABEL].to_numpy()
    folds = TimeSeriesSplit(FOLDS) if in_time else StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    # One thread: models are trained beside each other, and OpenMP's threads wait for each other by turning round and
    # round.
    with threadpool_limits(1):
        scores = cross_val_score(estimator(model), inputs, labels, cv=folds, scoring="accuracy")
        return estimator(model).fit(inputs, labels), float(scores.mean())


def accuracy(fitted: Any, rows: "pl.DataFrame") -> float:
    """Return the share of rows whose label a fitted model finds."""
    return float((fitted.predict(matrix(rows)) == rows[LABEL].to_numpy()).mean())


def baseline(train: "pl.DataFrame", rows: "pl.DataFrame") -> float:
    """Return the accuracy of always saying the commonest label of the training rows."""
    commonest = train[LABEL].value_counts().sort("count", LABEL, descending=[True, False])[LABEL][0]
    return float((rows[LABEL] == commonest).mean() or 0)


def matrix(rows: "pl.DataFrame") -> Any:
    """Return the features of rows as numbers, a missing one as NaN."""
    import polars as pl

    return rows.drop(LABEL).cast(pl.Float64).to_numpy()
