"""Every alert fires when it should and does not when it should not, as Prometheus itself evaluates it."""

import copy
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from embedded.paths import REPOSITORY
from tests.charts.render import render_chart
from tests.go_tools import go_tool
from tests.monitoring.rules import alerts, rule_groups, write

CASES = Path(__file__).with_name("alerts")
FILES = sorted(path.stem for path in CASES.glob("*.yaml"))
RUNBOOK = REPOSITORY / "docs" / "monitoring.md"


@pytest.fixture(scope="module")
def groups():
    return rule_groups()


def promtool(*arguments):
    """What promtool says, and whether it is content."""
    command = [str(go_tool("promtool")), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", FILES)
def test_alerts_fire_and_stay_silent(name, groups, tmp_path):
    rules = copy.deepcopy(groups[name])
    for group in rules:
        for rule in group["rules"]:
            if "annotations" in rule:  # promtool compares them all; the summary shows that values and labels get in
                rule["annotations"] = {"summary": rule["annotations"]["summary"]}
    cases = yaml.safe_load((CASES / f"{name}.yaml").read_text())
    write(rules, tmp_path / "rules.yaml")
    file = tmp_path / "cases.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", **cases}))
    content, said = promtool("test", "rules", file)
    assert content, said


def test_every_alert_has_a_case_that_fires_and_one_that_does_not(groups):
    fires: set[str] = set()
    silent: set[str] = set()
    for name in FILES:
        for test in yaml.safe_load((CASES / f"{name}.yaml").read_text())["tests"]:
            for case in test["alert_rule_test"]:
                (fires if case["exp_alerts"] else silent).add(case["alertname"])
    assert fires == silent == set(alerts(groups))


def test_promtool_finds_nothing_wrong(groups, tmp_path):
    for name, each in groups.items():
        content, said = promtool("check", "rules", "--lint=all", "--lint-fatal", write(each, tmp_path / f"{name}.yaml"))
        assert content, said


def test_a_wrong_expression_would_be_found(groups, tmp_path):
    wrong = copy.deepcopy(groups["ingest"])
    wrong[0]["rules"][0]["expr"] += " by ("
    content, said = promtool("check", "rules", write(wrong, tmp_path / "wrong.yaml"))
    assert not content
    assert "parse error" in said


def test_every_alert_says_how_bad_it_is_and_what_to_do(groups):
    for name, rule in alerts(groups).items():
        assert rule["labels"]["severity"] in ("critical", "warning"), name
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, name
        assert rule["annotations"]["description"].endswith("."), name
        assert "${" not in str(rule), name


def headings(path):
    """The headings of a page and how they are linked to."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"): heading for heading in found}


def test_every_runbook_is_a_section_that_exists(groups):
    anchors = headings(RUNBOOK)
    for name, rule in alerts(groups).items():
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert REPOSITORY / page == RUNBOOK
        assert anchors.get(anchor) == name


def test_every_alert_of_the_runbook_exists(groups):
    described = set(re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    assert described == set(alerts(groups))


def test_runbooks_are_linked_to_where_the_repository_is_read():
    base = "https://git.example.com/platform/millrace/blob/main"
    rule = alerts(rule_groups({"monitoring": {"rules": {"runbooks": base}}}))["KafkaNodeDown"]
    assert rule["annotations"]["runbook_url"] == f"{base}/docs/monitoring.md#kafkanodedown"


def test_thresholds_come_from_the_values():
    thresholds = {"streamLatencySeconds": 12, "consumerLagRecords": 5000000, "kafkaDiskFreeRatio": 0.25}
    rules = alerts(rule_groups({"monitoring": {"thresholds": thresholds}}))
    assert rules["StreamLatencyHigh"]["expr"].endswith("> 12")
    assert float(rules["KafkaConsumerGroupLag"]["expr"].rpartition("> ")[2]) == 5000000
    assert rules["KafkaDiskFilling"]["expr"].endswith("< 0.25")


def test_every_threshold_is_used():
    marked = {name: 1234 + number for number, name in enumerate(DEFAULTS) if not name.endswith("Ratio")}
    ratios = {name: 0.1234 + number / 100 for number, name in enumerate(DEFAULTS) if name.endswith("Ratio")}
    text = str(rule_groups({"monitoring": {"thresholds": marked | ratios}}))
    for name, value in (marked | ratios).items():
        assert str(value) in text, name


DEFAULTS = yaml.safe_load((REPOSITORY / "charts/millrace/values.yaml").read_text())["monitoring"]["thresholds"]


def test_what_is_not_scraped_is_not_alerted_on():
    off = {
        "kafka": {"metrics": {"enabled": False}, "exporter": {"enabled": False}},
        "monitoring": {"targets": dict.fromkeys(("airflow", "postgresql", "ingest", "sparkDrivers"), False)},
    }
    assert set(rule_groups(off)) == {"targets"}
    missing = alerts(rule_groups(off))["MetricsTargetMissing"]["expr"]
    assert "airflow" not in missing
    assert 'absent(up{job="strimzi"})' in missing


def test_combined_nodes_are_counted_once():
    one = {
        "kafka": {
            "combinedNodes": True,
            "brokers": {"replicas": 1},
            "replicationFactor": 1,
            "minInsyncReplicas": 1,
        }
    }
    assert alerts(rule_groups(one))["KafkaNodeDown"]["expr"].endswith("< 1")


def test_monitoring_can_be_left_out():
    kinds = {each["kind"] for each in render_chart({"monitoring": {"enabled": False}})}
    assert not kinds & {"PodMonitor", "PrometheusRule"}
