"""Which labels the result of a PromQL expression has, and whether each label that the expression names exists.

Works on the syntax tree that Prometheus itself makes of the expression.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Labels = frozenset[str]
NONE: Labels = frozenset()


class QueryError(Exception):
    """An expression names a metric or a label that does not exist."""


def result_labels(tree: dict[str, Any], known: Mapping[str, Labels]) -> Labels:
    """Return the labels that a result can have.

    Args:
        tree: what Prometheus answers at /api/v1/parse_query.
        known: labels of each metric that exists.

    Raises:
        QueryError: a metric or a label that the expression names does not exist.
    """
    return _KINDS.get(tree["type"], _wrapped)(tree, known)


def selectors(tree: Any) -> Iterator[dict[str, Any]]:
    """Every selector of the expression."""
    if isinstance(tree, dict):
        if tree.get("type") in ("vectorSelector", "matrixSelector"):
            yield tree
        for child in tree.values():
            yield from selectors(child)
    elif isinstance(tree, list):
        for child in tree:
            yield from selectors(child)


def _need(wanted: list[str], there: Labels, what: str) -> None:
    missing = sorted(set(wanted) - there)
    if missing:
        raise QueryError(
            f"{what} names {', '.join(missing)}, and there is only {', '.join(sorted(there)) or 'no label'}"
        )


def _selector(tree: dict[str, Any], known: Mapping[str, Labels]) -> Labels:
    name = tree["name"]
    if name not in known:
        raise QueryError(f"nothing exports {name}")
    matched = [matcher["name"] for matcher in tree["matchers"] if matcher["name"] != "__name__"]
    _need(matched, known[name], f"the selector of {name}")
    return known[name]


def _aggregation(tree: dict[str, Any], known: Mapping[str, Labels]) -> Labels:
    inner = result_labels(tree["expr"], known)
    _need(tree["grouping"], inner, f"{tree['op']} by")
    grouping = frozenset(tree["grouping"])
    return inner - grouping if tree["without"] else grouping


def _binary(tree: dict[str, Any], known: Mapping[str, Labels]) -> Labels:
    left, right = result_labels(tree["lhs"], known), result_labels(tree["rhs"], known)
    matching = tree["matching"]
    if not matching:  # one side is a number
        return left | right
    _need(matching["labels"], left & right, f"the matching of {tree['op']}")
    if tree["op"] == "or":
        return left | right
    if tree["op"] in ("and", "unless"):
        return left
    joined = frozenset(matching["labels"])
    if matching["card"] == "one-to-one":
        if not matching["on"] and left != right:
            raise QueryError(f"{tree['op']} of {sorted(left)} and {sorted(right)}: they never match")
        return joined if matching["on"] else left - joined
    many = left if matching["card"] == "many-to-one" else right
    return many | frozenset(matching["include"])


def _call(tree: dict[str, Any], known: Mapping[str, Labels]) -> Labels:
    name, arguments = tree["func"]["name"], tree["args"]
    if name in ("absent", "absent_over_time"):
        [selector] = selectors(arguments[0])
        _selector(selector, known)
        return frozenset(m["name"] for m in selector["matchers"] if m["type"] == "=" and m["name"] != "__name__")
    found = [result_labels(each, known) for each in arguments if each["type"] not in ("numberLiteral", "stringLiteral")]
    inner = found[0] if found else NONE
    if name in ("scalar", "time", "vector"):
        return NONE
    if name == "label_replace":
        target, _, source = (each["val"] for each in arguments[1:4])
        _need([source], inner, name)
        return inner | {target}
    if name == "histogram_quantile":
        _need(["le"], inner, name)
        return inner - {"le"}
    return inner


def _wrapped(tree: dict[str, Any], known: Mapping[str, Labels]) -> Labels:
    """Parentheses, signs, subqueries: what is inside counts; numbers and texts have nothing inside."""
    return result_labels(tree["expr"], known) if isinstance(tree.get("expr"), dict) else NONE


_KINDS: dict[str, Callable[[dict[str, Any], Mapping[str, Labels]], Labels]] = {
    "vectorSelector": _selector,
    "matrixSelector": _selector,
    "aggregation": _aggregation,
    "binaryExpr": _binary,
    "call": _call,
}
