"""`make uninstall`: the reverse order, nothing left that nobody can delete."""

import shlex

import pytest

from tests.deploy.test_up import planned


@pytest.fixture
def installed(world, millrace):
    assert millrace("up")[0] == 0
    pods = [{"metadata": {"name": "millrace-combined-0"}}]
    world.change(lists={"pods|millrace": pods})
    world.forget()
    return world


def test_the_dry_run_shows_what_is_done_in_reverse_order(installed, millrace):
    status, text = millrace("uninstall", "--everything", "--dry-run")
    assert (status, installed.calls()) == (0, [])
    expected = planned(text)
    status, text = millrace("uninstall", "--everything", "--yes")
    assert status == 0, text
    done = [line for line in installed.calls() if " get " not in line and " version" not in line]
    assert [line for line in done if " config " not in line] == expected
    order = [line.split()[4] for line in expected if " uninstall " in line]
    assert order == ["airflow", "millrace", "spark-operator", "strimzi", "monitoring"]


def test_topics_go_while_their_operator_still_runs(installed, millrace):
    millrace("uninstall", "--yes")
    calls = installed.calls()

    def at(part):
        [found] = [number for number, line in enumerate(calls) if part in line]
        return found

    assert (
        at("uninstall airflow")
        < at("delete pods --all --namespace airflow")
        < at("delete sparkapplications")
        < at("delete kafkatopics")
    )
    assert (
        at("delete kafkatopics")
        < at("uninstall millrace")
        < at("wait pod --all --for=delete")
        < at("uninstall strimzi")
    )
    assert not [line for line in calls if "delete --ignore-not-found --filename" in line]


def test_topics_whose_operator_is_gone_lose_their_finalizers(installed, millrace):
    installed.fail("delete kafkatopics", "error: timed out waiting for the condition on kafkatopics/events")
    installed.change(lists={"kafkatopics.kafka.strimzi.io|millrace": [{"metadata": {"name": "events"}}]})
    status, text = millrace("uninstall", "--yes")
    assert status == 0, text
    assert "No operator let go of events: removing its finalizer." in text
    [patch] = [line for line in installed.calls() if " patch " in line]
    assert (
        'kafkatopics.kafka.strimzi.io events --namespace millrace --type=merge --patch {"metadata":{"finalizers":null}}'
        in patch
    )
    assert [line for line in installed.calls() if "uninstall monitoring" in line]


def test_a_cluster_without_the_definitions_has_nothing_of_them_to_delete(world, millrace):
    world.change(contexts=["kind-millrace"])
    status, text = millrace("uninstall", "--yes")
    assert status == 0, text
    assert not [line for line in world.calls() if "delete kafkatopics" in line or "delete sparkapplications" in line]


def test_it_asks_first_and_says_what_stays(installed, millrace, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: "")
    status, text = millrace("uninstall")
    assert status == 0
    assert "deletes what is in Kafka's topics" in text
    assert "It leaves the namespaces, their secrets and volumes" in text
    assert installed.changing() == []


def test_a_failure_ends_it_and_the_next_try_goes_on(installed, millrace):
    installed.fail("uninstall millrace", "Error: context deadline exceeded")
    status, text = millrace("uninstall", "--yes")
    assert status == 1
    assert "context deadline exceeded" in text
    assert not [line for line in installed.calls() if "uninstall strimzi" in line]
    installed.change(rules=[])
    assert millrace("uninstall", "--yes")[0] == 0
    assert [line for line in installed.calls() if "uninstall monitoring" in line]


def test_every_printed_command_can_be_typed(installed, millrace):
    for line in millrace("uninstall", "--everything", "--dry-run")[1].splitlines():
        if line and not line.startswith("#"):
            assert shlex.split(line)[0] in ("kubectl", "helm")
