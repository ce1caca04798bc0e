"""Is a set of features fit for the store? Checked with Pointblank before anything is written."""

from typing import TYPE_CHECKING, Any

from millrace.features import EVENT_TIME, FeatureSet

if TYPE_CHECKING:
    import polars as pl

    from millrace.flight_features import Days


def problems(frame: "pl.DataFrame", feature_set: FeatureSet, days: "Days") -> list[str]:
    """Return what is wrong with the rows of a set for these days, a clause each; empty if they are as they should be.

    One row for each key and hour, none twice; every value in its range; no more missing values than the set allows.
    """
    import pointblank as pb

    if frame.is_empty():
        return ["there is not one row"]
    keys = [*feature_set.keys, EVENT_TIME]
    hours = 24 * days.number
    check = (
        pb.Validate(frame, tbl_name=feature_set.table)
        .rows_distinct(columns_subset=keys)
        .row_count_match(frame.select(feature_set.keys).n_unique() * hours)
        .col_vals_not_null(columns=keys)
        .col_vals_between(columns="day", left=days.first, right=days.end, inclusive=(True, False))
    )
    for feature in feature_set.features:
        check = check.col_vals_between(feature.name, feature.minimum, feature.maximum, na_pass=True)
    found = [_clause(step, frame, keys) for step in check.interrogate().validation_info if not step.all_passed]
    for feature in feature_set.features:
        missing = frame[feature.name].null_count() / frame.height
        if missing > feature.nulls:
            found.append(f"{feature.name} has no value in {missing:.0%} of the rows, at most {feature.nulls:.0%} may")
    return found


def _clause(step: Any, frame: "pl.DataFrame", keys: list[str]) -> str:
    """Say what a failed step of a check has found."""
    if step.eval_error:
        return f"{step.column} can't be checked, it is {frame.schema.get(step.column)}"
    if step.assertion_type == "rows_distinct":
        return f"{step.n_failed} rows share their {' and '.join(keys)} with another"
    if step.assertion_type == "row_count_match":
        return f"there are {frame.height} rows, and should be {step.values['count']}"
    if step.assertion_type == "col_vals_not_null":
        return f"{step.column} is missing in {step.n_failed} rows"
    first = step.extract.row(0, named=True)
    where = ", ".join(str(first[key]) for key in keys)
    return f"{step.column} is out of its range in {step.n_failed} rows, the first time {first[step.column]} ({where})"
