"""Every query of rules and dashboards parses, and names only metrics and labels that something of ours exports."""

import json
import re

import pytest

from charts.dashboards.__main__ import DASHBOARDS, PLACE
from charts.dashboards.grafana import render
from tests.charts.render import by_name, render_chart
from tests.monitoring.exposition import EXPORTED, everything, listed
from tests.monitoring.promql import QueryError, result_labels, selectors
from tests.monitoring.rules import RULE_NAMES, rules_by_name


@pytest.fixture(scope="module")
def rules():
    return rules_by_name()


@pytest.fixture(scope="module")
def known(our_metrics, prometheus, rules):
    """The labels of every metric, those that rules record among them."""
    metrics = everything(our_metrics)
    for rule in rules.values():
        if "record" in rule:
            metrics[rule["record"]] = result_labels(prometheus.parse(rule["expr"]), metrics)
    return metrics


def panels():
    """Every panel with queries: name of the dashboard, title, queries."""
    for dashboard in DASHBOARDS:
        for panel in json.loads((PLACE / f"{dashboard.name}.json").read_text())["panels"]:
            if panel["type"] != "row":
                yield dashboard.name, panel["title"], panel["targets"]


def filled(query, dashboard):
    """A query as Grafana sends it: with a range, and with all that the reader can choose."""
    query = query.replace("$__rate_interval", "2m")
    for variable in dashboard.variables:
        query = query.replace(f"${variable.name}", ".*")
    assert "$" not in query
    return query


BY_NAME = {dashboard.name: dashboard for dashboard in DASHBOARDS}


@pytest.mark.parametrize("name", RULE_NAMES)
def test_a_rule_names_only_what_exists(name, rules, prometheus, known):
    rule = rules[name]
    labels = result_labels(prometheus.parse(rule["expr"]), known)
    assert prometheus.ask("query", query=rule["expr"])["resultType"] == "vector"
    used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule.get("annotations", {}))))
    assert used <= labels | set(rule.get("labels", {}))


@pytest.mark.parametrize(
    ("name", "title", "targets"), list(panels()), ids=lambda part: part if isinstance(part, str) else ""
)
def test_a_panel_names_only_what_exists(name, title, targets, prometheus, known):
    for target in targets:
        query = filled(target["expr"], BY_NAME[name])
        labels = result_labels(prometheus.parse(query), known)
        assert prometheus.ask("query", query=query)["resultType"] in ("vector", "scalar")
        used = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert used <= labels


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_what_can_be_chosen_exists(dashboard, known):
    for variable in dashboard.variables:
        assert variable.label in known[variable.metric]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("rate(stream_events_total[5m])", "nothing exports stream_events_total"),
        ("sum by (topic) (stream_events_processed_total)", "sum by names topic"),
        ('stream_events_processed_total{dag_id="a"}', "names dag_id"),
        ("histogram_quantile(0.9, sum by (query) (rate(stream_processing_latency_seconds_bucket[5m])))", "names le"),
        ("stream_processing_lag / stream_state_rows", "never match"),
        ("stream_processing_lag and on (feed) stream_state_rows", "matching of and names feed"),
        ('label_replace(up, "a", "$1", "nothing", "(.+)")', "label_replace names nothing"),
    ],
)
def test_a_wrong_name_would_be_found(query, words, prometheus, known):
    with pytest.raises(QueryError, match=words):
        result_labels(prometheus.parse(query), known)


def test_a_query_that_is_none_would_be_found(prometheus):
    with pytest.raises(ValueError, match="parse error"):
        prometheus.parse("sum by (")


def test_the_lists_name_only_what_is_used(prometheus, rules):
    """A list that names more would be believed without anybody having looked."""
    used = {"up", "ALERTS"}
    trees = [prometheus.parse(rule["expr"]) for rule in rules.values()]
    for name, _, targets in panels():
        trees += [prometheus.parse(filled(target["expr"], BY_NAME[name])) for target in targets]
    used |= {selector["name"] for tree in trees for selector in selectors(tree)}
    used |= {variable.metric for dashboard in DASHBOARDS for variable in dashboard.variables}
    names = {metric for path in EXPORTED.glob("*.yaml") for metric in listed(path.stem)}
    assert names <= used


def test_the_json_is_what_is_written_here():
    for dashboard in DASHBOARDS:
        assert (PLACE / f"{dashboard.name}.json").read_text() == render(dashboard), "run python -m charts.dashboards"
    assert {path.stem for path in PLACE.glob("*.json")} == set(BY_NAME)


def test_dashboards_are_found_by_grafana():
    maps = by_name(render_chart(), "ConfigMap")
    for dashboard in DASHBOARDS:
        found = maps[f"millrace-dashboard-{dashboard.name}"]
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert found["metadata"]["annotations"]["grafana_folder"] == "Millrace"
        [(file, text)] = found["data"].items()
        assert file == f"millrace-{dashboard.name}.json"
        assert json.loads(text)["uid"] == f"millrace-{dashboard.name}"


def test_panels_do_not_overlap():
    for dashboard in DASHBOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(render(dashboard))["panels"]:
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert not cells & taken, f"{dashboard.name}: {panel['title']}"
            assert place["x"] + place["w"] <= 24
            taken |= cells
