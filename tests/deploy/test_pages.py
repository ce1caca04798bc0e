"""`make ui`: the pages, the way to each, and where its password is."""

import signal
import subprocess
import sys

import pytest

from k8s.install.pages import PAGES
from k8s.install.releases import REPOSITORY
from tests.deploy.test_up import alive, wait_until


@pytest.fixture
def pages(world):
    there: dict[str, dict[str, str]] = {
        f"service|{page.namespace}|{page.service}": {} for page in PAGES if page.title != "Kafka UI"
    }
    world.change(contexts=["kind-millrace"], objects=there)
    return world


def test_pages_are_printed_with_the_command_for_each_and_the_source_of_each_password(pages, millrace):
    status, text = millrace("ui", "--print")
    assert status == 0
    assert "Airflow: http://localhost:8080" in text
    assert "port-forward service/grafana 3000:80 --namespace monitoring" in text
    assert (
        "get secret airflow-admin --namespace airflow --template '{{index .data \"password\" | base64decode}}'" in text
    )
    assert "Not in this cluster: Kafka UI." in text
    assert not [line for line in pages.calls() if "port-forward" in line or " get secret " in line]


def test_ports_of_this_machine_are_all_different():
    assert len({page.local for page in PAGES}) == len(PAGES)


def test_a_cluster_without_millrace(world, millrace):
    world.change(contexts=["kind-millrace"])
    status, text = millrace("ui")
    assert status == 1
    assert "None of Millrace's pages is in the cluster kind-millrace" in text


def test_pages_stay_reachable_until_ctrl_c_and_one_that_goes_is_said(pages):
    pages.fail("port-forward service/grafana", "error: unable to listen on port 3000: address already in use")
    process = subprocess.Popen(
        [sys.executable, "-m", "k8s.install", "ui"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    text = ""
    while "Grafana is no longer reachable" not in text:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, text
        text += line
    assert "unable to listen on port 3000: address already in use" in text
    assert "Reachable until Ctrl-C." in text
    forwards = [call for call in pages.recorded() if "port-forward" in call["line"] and "grafana" not in call["line"]]
    assert len(forwards) == len(PAGES) - 2
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in rest
    for call in forwards:
        wait_until(lambda call=call: not alive(call["pid"]))


def test_no_way_to_any_page(pages, millrace):
    pages.fail("port-forward", "error: unable to forward port because pod is not running")
    status, text = millrace("ui")
    assert status == 1
    assert "No page can be reached any more" in text
