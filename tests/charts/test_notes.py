"""What helm says after an installation: commands for what is there, and warnings where they are due."""

import re
import shutil

import pytest

from tests.charts.render import CHART, EVERYTHING, by_name, render_chart

TEMPLATE = """apiVersion: v1
kind: ConfigMap
metadata:
  name: notes
data:
  notes: {{ tpl (.Files.Get "notes.txt") . | quote }}
"""


@pytest.fixture
def notes(tmp_path):
    """Renders the notes: `helm template` leaves them out, so a copy of the chart has them in an object."""
    chart = tmp_path / "millrace"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "NOTES.txt").rename(chart / "notes.txt")
    (chart / "templates" / "notes.yaml").write_text(TEMPLATE)

    def render(values=None, *, files=()):
        return by_name(render_chart(values, files=files, chart=chart), "ConfigMap")["notes"]["data"]["notes"]

    return render


def test_they_name_what_is_there(notes):
    text = notes(files=(EVERYTHING,))
    assert "<no value>" not in text
    services = by_name(render_chart(files=(EVERYTHING,)), "Service")
    forwarded = re.findall(r"port-forward service/(\S+) (\d+)", text)
    assert sorted(name for name, _ in forwarded) == ["history-server", "kafka-ui"]
    for name, port in forwarded:
        assert int(port) in {each["port"] for each in services[name]["spec"]["ports"]}
    assert "kubectl -n millrace wait kafka/millrace" in text
    assert "for namespace in data orchestration; do" in text
    assert "The plain listener is on" in text


def test_they_are_short_by_default(notes):
    text = notes()
    for word in ("port-forward", "plain listener", "Network policies are off", "one pod on one volume"):
        assert word not in text
    assert "kafka-ca" in text
    assert not re.search(r"\n\n\n", text)


def test_they_warn(notes):
    production = {
        "environment": "production",
        "postgresql": {"enabled": False, "external": {"cidrs": ["192.0.2.1/32"]}},
        "networkPolicies": {"enabled": False},
    }
    text = notes(production)
    assert "The object store is one pod on one volume" in text
    assert "Network policies are off" in text
