"""Alertmanager takes the receivers' file, and sends each of our alerts to those who should hear of it."""

import subprocess

import pytest
import yaml

from embedded.paths import REPOSITORY
from tests.go_tools import go_tool
from tests.monitoring.rules import alerts, rule_groups

VALUES = yaml.safe_load((REPOSITORY / "k8s" / "releases" / "alertmanager-receivers.yaml").read_text())["alertmanager"]


def amtool(*arguments):
    """What amtool says, and whether it is content."""
    command = [str(go_tool("amtool")), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("alertmanager") / "alertmanager.yml"
    path.write_text(yaml.safe_dump(VALUES["config"]))
    return path


def test_alertmanager_takes_it(file):
    content, said = amtool("check-config", file)
    assert content, said


def test_a_receiver_that_is_none_would_be_found(file, tmp_path):
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(file.read_text().replace("receiver: on-call", "receiver: somebody"))
    content, said = amtool("check-config", wrong)
    assert not content
    assert "somebody" in said


def receiver(file, **labels):
    """Who hears of an alert with these labels."""
    content, said = amtool("config", "routes", "test", f"--config.file={file}", *map("=".join, labels.items()))
    assert content, said
    return said.strip()


def test_what_is_critical_wakes_somebody_and_the_rest_does_not(file):
    severities = {rule["labels"]["severity"] for rule in alerts(rule_groups()).values()}
    receivers = {severity: receiver(file, alertname="Any", severity=severity) for severity in severities}
    assert receivers == {"critical": "on-call", "warning": "everybody"}
    assert receiver(file, alertname="Watchdog", severity="none") == "nobody"


def test_mail_slack_and_pagerduty_are_told():
    kinds = {kind for each in VALUES["config"]["receivers"] for kind in each if kind != "name"}
    assert kinds == {"email_configs", "pagerduty_configs", "slack_configs"}


def test_alerts_that_others_hold_back_exist():
    ours = set(alerts(rule_groups()))
    for rule in VALUES["config"]["inhibit_rules"]:
        [source] = rule["source_matchers"]
        assert source.partition(" = ")[2] in ours


def test_no_secret_is_in_the_file():
    """Only the places of files that the secret brings."""
    assert VALUES["alertmanagerSpec"]["secrets"] == ["alertmanager-receivers"]

    def leaves(node, name=""):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from leaves(value, key)
        elif isinstance(node, list):
            for value in node:
                yield from leaves(value, name)
        else:
            yield name, node

    secret = [(name, value) for name, value in leaves(VALUES["config"]) if "password" in name or "key" in name]
    secret += [(name, value) for name, value in leaves(VALUES["config"]) if name.startswith("slack_api")]
    assert len(secret) == 3
    for name, value in secret:
        assert name.endswith("_file")
        assert value.startswith("/etc/alertmanager/secrets/alertmanager-receivers/")
