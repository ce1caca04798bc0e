"""The chart's README: made from the values, and naming every secret that must be there."""

import pytest
import yaml

from tests.charts import readme
from tests.charts.render import EVERYTHING, RELEASE_NAMESPACE, render_chart


def test_it_is_what_the_values_say():
    assert readme.README.read_text() == readme.text(), "run: make chart-docs"


def test_without_go_one_sentence_says_what_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(readme, "go_tool", lambda name: pytest.skip(f"needs Go to build {name}: install it"))
    before = readme.README.read_bytes()
    assert readme.main() == 1
    assert capsys.readouterr().err == "needs Go to build helm-docs: install it\n"
    assert readme.README.read_bytes() == before


def secrets(node):
    """Every secret that an object names: (name, key), or (name, None) where all of it is mounted."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "secretKeyRef":
                yield value["name"], value["key"]
            elif key == "secretName":
                yield value, None
            else:
                yield from secrets(value)
    elif isinstance(node, list):
        for value in node:
            yield from secrets(value)


def test_every_secret_is_in_its_table():
    rows = [line.strip("| ").split(" | ") for line in readme.README.read_text().splitlines() if line.startswith("| ")]
    table = {(row[0], name): row[2] for row in rows if len(row) == 3 for name in row[1].replace(",", " ").split()}
    names = {"data": "`namespaces.streams`", RELEASE_NAMESPACE: "the release's"}
    found = 0
    feeds = yaml.safe_load(EVERYTHING.read_text())["ingest"]["feeds"]
    named_by_values = {secret["name"] for feed in feeds for secret in feed.get("secrets", {}).values()}
    for each in render_chart(files=(EVERYTHING,)):
        namespace = names.get(each["metadata"].get("namespace", RELEASE_NAMESPACE))
        for name, key in secrets(each):
            if name.endswith("-cluster-ca-cert") or name in named_by_values:
                continue  # made by the Strimzi operator, or no name of the chart's
            known = [
                keys
                for (where, known_name), keys in table.items()
                if where == namespace
                and known_name.strip("`") in (name, "kafka-user-<user>" if name.startswith("kafka-user-") else name)
            ]
            assert known, f"{name} in {namespace}"
            assert key is None or any(f"`{key}`" in keys for keys in known), f"{key} of {name} in {namespace}"
            found += 1
    assert found > 10
