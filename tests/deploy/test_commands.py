"""Real kubectl and helm take every command of the plan: that no server is there is all they have against it."""

import os
import shutil
import subprocess

import pytest

from k8s.install.cluster import Cluster
from k8s.install.pages import PAGES
from k8s.install.releases import ENVIRONMENTS, REPOSITORY
from k8s.install.steps import install_steps
from k8s.install.uninstall import uninstall_steps
from tests.charts.render import helm

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: nowhere, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]
users: [{name: nobody, user: {}}]
"""
CLUSTER = Cluster("nowhere")
UNREACHED = ("connection refused", "was refused", "cluster unreachable", "unable to recognize", "connection lost")
NO_CHART = ("no such host", "cannot be reached", "dial tcp", "failed to do request", "failed to perform")
"""Where helm can't even reach a chart's repository."""


def planned():
    commands = [command for name in ENVIRONMENTS for step in install_steps(CLUSTER, name) for command in step.commands]
    commands += [command for step in uninstall_steps(CLUSTER, everything=True) for command in step.commands]
    commands += [tuple(page.forward(CLUSTER)) for page in PAGES]
    return sorted({command for command in commands if len(command) > 1})


@pytest.mark.parametrize("command", planned(), ids=lambda command: " ".join(command[3:8]))
def test_it_is_understood(command, tmp_path):
    program = helm() if command[0] == "helm" else shutil.which("kubectl")
    if program is None:
        pytest.skip("needs kubectl")
    (tmp_path / "config").write_text(KUBECONFIG)
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "config"), "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    result = subprocess.run(
        [str(program), *command[1:]], env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    assert result.returncode != 0
    wrong = result.stderr.lower()
    assert "unknown" not in wrong
    assert any(words in wrong for words in (*UNREACHED, *(NO_CHART if command[0] == "helm" else ()))), wrong
