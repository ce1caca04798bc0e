"""docs/install.md and docs/gitops.md show what is true: the commands of the plan, versions, names."""

import re
import shlex

import pytest

from embedded.paths import REPOSITORY
from k8s.install import cli
from k8s.install.releases import releases, versions

INSTALL = (REPOSITORY / "docs" / "install.md").read_text()
GITOPS = (REPOSITORY / "docs" / "gitops.md").read_text()
BLOCK = re.compile(r"<!-- commands: (.+?) -->\n```\n(.*?)```\n", re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
def test_the_commands_of_the_page_are_those_of_the_plan(number, capsys):
    arguments, shown = BLOCK.findall(INSTALL)[number]
    assert cli.main(shlex.split(arguments)) == 0
    planned = capsys.readouterr().out.rstrip() + "\n"
    assert shown == planned, f"put the output of `python -m k8s.install {arguments}` there"


def test_the_page_s_versions_are_the_pinned_ones():
    charts = versions()["charts"]
    assert f"kind.sigs.k8s.io) {versions()['kind']['version'].rpartition('.')[0]}," in INSTALL
    assert f"skaffold.dev) {versions()['skaffold']['version'].rpartition('.')[0]} " in INSTALL
    assert f"Kubernetes {versions()['kubernetes']['minimum']} or later" in INSTALL
    for chart, version in re.findall(r"helm show crds (?:oci://\S+/)?(\S+) .*?--version (\S+)", INSTALL):
        assert charts[chart] == version


def test_every_release_is_in_the_table_in_its_order():
    rows = re.findall(r"^\| `([a-z-]+)` \| ", INSTALL, re.MULTILINE)
    assert rows == [release.name for release in releases()]


def test_what_the_pages_name_of_the_repository_is_there():
    for text in (INSTALL, GITOPS):
        for path in re.findall(r"\b(?:k8s|charts|dags|tests)/[\w./-]+\w", text):
            assert (REPOSITORY / path).exists(), path


def test_the_manifests_of_the_page_are_as_the_schemas_want_them():
    import json
    import os
    from pathlib import Path

    import jsonschema
    import yaml

    schema = Path(os.environ.get("MILLRACE_SCHEMAS", "/nowhere")) / "json/external-secrets.io/secretstore_v1.json"
    if not schema.exists():
        pytest.skip("needs external-secrets.io/secretstore_v1.json in the folder json of MILLRACE_SCHEMAS")
    [example] = re.findall(r"```yaml\n(.*?)```", GITOPS, re.DOTALL)
    store = {"apiVersion": "external-secrets.io/v1", "kind": "SecretStore", **yaml.safe_load(example)}
    errors = jsonschema.Draft7Validator(json.loads(schema.read_text())).iter_errors(store)
    assert [error.message for error in errors] == []
