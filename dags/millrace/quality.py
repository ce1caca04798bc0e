"""Data quality of a table: what is expected (rules/<table>.yaml), what was found, and a report that people look at.

Rows are read lazily: only the columns that rules name, only the rows of the window. Pointblank counts and draws
(docs/decisions/0011-pointblank-for-data-quality.md); which rules are broken is decided here, from its counts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from millrace import tables
from millrace.errors import MillraceError

if TYPE_CHECKING:
    import pointblank as pb
    import polars as pl

RULES_FOLDER = Path(__file__).parent / "rules"
DUPLICATE = "duplicate"
SHOWN_ROWS = 50
"""Rows that break a rule and can be fetched from the report, at most."""
_FONTS = re.compile(r"@import url\([^)]*\);?")


@dataclass(frozen=True)
class Rules:
    """What is expected of a table; see rules/market_data.yaml for the meaning of each."""

    table: str
    time_column: str
    window_hours: float
    max_rows: int
    key: tuple[str, ...]
    columns: Mapping[str, str]
    required: tuple[str, ...]
    accuracy: tuple[Mapping[str, str], ...]
    outliers: tuple[Mapping[str, Any], ...]
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """What became of one rule."""

    dimension: str
    rule: str
    measured: float | None
    """None if it couldn't be measured."""
    limit: float | None
    unit: str
    """share, hours or count."""
    broken: bool


@dataclass(frozen=True)
class Age:
    """How old a table's newest row is."""

    newest: datetime | None
    """None if there is no row, or no table."""
    hours: float | None
    fresh: bool


def load_rules(name: str, folder: Path = RULES_FOLDER) -> Rules:
    """Read the rules of a table. Raises MillraceError if there are none or they aren't complete."""
    path = folder / f"{name}.yaml"
    try:
        found = yaml.safe_load(path.read_text())
        found |= {name: tuple(found[name]) for name in ("key", "required", "accuracy", "outliers")}
        return Rules(**found)
    except FileNotFoundError:
        have = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
        raise MillraceError(f"There are no rules {path} (there are: {have}): write them, or name another.") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        detail = " ".join(str(error).split())
        raise MillraceError(f"{path} doesn't describe a table's rules ({detail}): compare it with others.") from error


def age(rules: Rules, now: datetime) -> Age:
    """Return how old the newest row before `now` is; of its column only the newest value is kept in memory."""
    import polars as pl

    if not tables.exists(rules.table):
        return Age(None, None, fresh=False)
    time = pl.col(rules.time_column)
    with _one_sentence(rules):
        newest = tables.scan(rules.table).filter(time < now).select(time.max()).collect().item()
    if newest is None:
        return Age(None, None, fresh=False)
    hours = (now - newest) / timedelta(hours=1)
    return Age(newest, round(hours, 3), fresh=hours < rules.limits["max_age_hours"])


def age_finding(rules: Rules, found: Age) -> Finding:
    """Return what an age means."""
    rule = f"the newest row is younger than {rules.limits['max_age_hours']:g} hours"
    return Finding("timeliness", rule, found.hours, rules.limits["max_age_hours"], "hours", broken=not found.fresh)


def read_window(rules: Rules, now: datetime) -> "pl.DataFrame":
    """Return the rows of the window, with those columns of the rules that the table has.

    Raises MillraceError if they are more than `max_rows`: they would not fit into memory.
    """
    import polars as pl

    time = pl.col(rules.time_column)
    window = tables.scan(rules.table).filter(time >= now - timedelta(hours=rules.window_hours), time < now)
    with _one_sentence(rules):
        rows = window.select(pl.len()).collect().item()
    if rows > rules.max_rows:
        raise MillraceError(
            f"The table {rules.table} has {rows} rows of the last {rules.window_hours:g} hours, more than max_rows "
            f"({rules.max_rows}): lower window_hours in its rules, or raise max_rows if the worker has the memory."
        )
    with _one_sentence(rules):
        present = window.collect_schema().names()
        return window.select([name for name in rules.columns if name in present]).collect()


def interrogate(
    rules: Rules, rows: "pl.DataFrame", found_age: Age, now: datetime
) -> tuple[list[Finding], "pb.Validate"]:
    """Check all rules; return what became of each, and what `as_html` makes a report of."""
    import pointblank as pb
    import polars as pl

    steps = pb.Validate(data=_marked(rules, rows), tbl_name=rules.table, label=f"up to {now:%F %H:%M} UTC")
    plan: list[tuple[str, str, float, str]] = []

    def check(dimension: str, rule: str, most: float, unit: str = "share") -> dict[str, Any]:
        plan.append((dimension, rule, most, unit))
        # Pointblank marks a step from its threshold on, ours is what is still allowed.
        thresholds = pb.Thresholds(error=most + 1e-9 if most else 1)
        return {"brief": rule[:1].upper() + rule[1:], "thresholds": thresholds, "dimension": dimension}

    limits = rules.limits
    schema = pb.Schema(columns=list(rules.columns.items()))
    options = check("validity", f"columns and types are as agreed{_differences(rules, rows)}", 0, "count")
    steps = steps.col_schema_match(schema, complete=False, in_order=False, **options)
    options = check("timeliness", age_finding(rules, found_age).rule, 0, "hours")
    most_hours = timedelta(hours=limits["max_age_hours"])
    steps = steps.data_freshness(rules.time_column, most_hours, reference_time=now, **options)
    whole = f"a row has {', '.join(rules.required)} (at least {limits['completeness']:.0%} do)"
    options = check("completeness", whole, round(1 - limits["completeness"], 9))
    steps = steps.rows_complete(columns_subset=list(rules.required), **options)
    for column in rules.required:
        options = check("completeness", f"{column} is null in at most {limits['null_share']:.0%}", limits["null_share"])
        steps = steps.col_vals_not_null(column, **options)
    options = check("uniqueness", f"at most {limits['duplicate_share']:.0%} are duplicates", limits["duplicate_share"])
    steps = steps.col_vals_expr(~pl.col(DUPLICATE), **options)
    for number, outlier in enumerate(rules.outliers):
        rule = f"at most {limits['outlier_share']:.0%} are outliers of {outlier['column']}"
        options = check("outliers", rule, limits["outlier_share"])
        steps = steps.col_vals_expr(~pl.col(_outlier_column(number)).fill_null(value=False), **options)
    for accurate in rules.accuracy:
        options = check("accuracy", accurate["rule"], limits["inaccurate_share"])
        steps = steps.col_vals_expr(_holds(accurate["expression"]), **options)
    done = steps.interrogate(extract_limit=SHOWN_ROWS)
    findings = [_finding(rules, one, step, found_age) for one, step in zip(plan, done.validation_info, strict=True)]
    return findings, done


@contextmanager
def _one_sentence(rules: Rules) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        detail = str(error).strip().splitlines()[0]
        raise MillraceError(
            f"The table {rules.table} can't be read as its rules say ({detail}): compare its columns with "
            f"{RULES_FOLDER.name}/{rules.table}.yaml."
        ) from error


def as_html(done: "pb.Validate") -> str:
    """Return a report as a page of its own, that fetches nothing from anywhere."""
    body = _FONTS.sub("", done.get_tabular_report().as_raw_html())
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data quality</title></head>{body}</html>'


def _finding(rules: Rules, planned: tuple[str, str, float, str], step: Any, found_age: Age) -> Finding:
    dimension, rule, most, unit = planned
    if unit == "hours":
        return age_finding(rules, found_age)
    if step.eval_error or not step.n:
        return Finding(dimension, f"{rule}: can't be checked", None, most, unit, broken=True)
    failed = step.n_failed if unit == "count" else step.n_failed / step.n
    return Finding(dimension, rule, round(failed, 6), most, unit, broken=failed > most + 1e-9)


def _marked(rules: Rules, rows: "pl.DataFrame") -> "pl.DataFrame":
    """Add a column that tells duplicates, and one for each rule about outliers."""
    import polars as pl

    key = [name for name in rules.key if name in rows.columns]
    copies = ~pl.struct(key).is_first_distinct() if key else pl.lit(value=False)
    marks = [copies.alias(DUPLICATE)]
    for number, outlier in enumerate(rules.outliers):
        if {outlier["column"], *outlier["by"]} <= set(rows.columns):
            marks.append(_is_outlier(outlier).alias(_outlier_column(number)))
    return rows.with_columns(marks)


def _is_outlier(outlier: Mapping[str, Any]) -> "pl.Expr":
    """Distance from the group's median in median absolute deviations, scaled to standard deviations of a normal.

    Where more than half of a group's values are the same, that deviation is 0; the mean absolute one takes its place.
    """
    import polars as pl

    value = pl.col(outlier["column"])
    distance = (value - value.median().over(outlier["by"])).abs()
    median = distance.median().over(outlier["by"]) * 1.4826
    mean = distance.mean().over(outlier["by"]) * 1.2533
    scale = pl.when(median > 0).then(median).otherwise(mean)
    return distance > scale * outlier["deviations"]


def _outlier_column(number: int) -> str:
    return f"outlier_{number}"


def _holds(expression: str) -> "pl.Expr":
    import polars as pl

    return pl.sql_expr(f"({expression})").fill_null(value=True)


def _differences(rules: Rules, rows: "pl.DataFrame") -> str:
    have = {name: str(dtype) for name, dtype in rows.schema.items()}
    told: Sequence[str] = [
        f"{name} is {have[name]}, not {dtype}" if name in have else f"{name} is missing"
        for name, dtype in rules.columns.items()
        if have.get(name) != dtype
    ]
    return f" ({'; '.join(told)})" if told else ""
