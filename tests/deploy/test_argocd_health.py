"""Argo CD's health checks, run in a real Lua on objects in every state."""

import lupa
import pytest
import yaml

from embedded.paths import REPOSITORY

CHECKS = yaml.safe_load((REPOSITORY / "k8s/gitops/argocd/argocd-cm.yaml").read_text())["data"]
KAFKA_KINDS = ["Kafka", "KafkaTopic", "KafkaUser"]


def health(kind, status=None, generation=1):
    """The (status, message) that the check of a kind returns."""
    [check] = [text for name, text in CHECKS.items() if name.endswith(f"_{kind}")]
    lua = lupa.LuaRuntime(unpack_returned_tuples=True)
    # Argo CD gives scripts no more than these; what would reach outside is taken away.
    lua.execute("os, io, require, package, dofile, loadfile = nil, nil, nil, nil, nil, nil")
    thing = {"metadata": {"name": "x", "generation": generation}, "spec": {}}
    if status is not None:
        thing["status"] = status
    lua.globals().obj = table(lua, thing)
    found = lua.execute(check)
    return found["status"], found["message"]


def table(lua, value):
    if isinstance(value, dict):
        return lua.table_from({key: table(lua, each) for key, each in value.items()})
    if isinstance(value, list):
        return lua.table_from([table(lua, each) for each in value])
    return value


def conditions(*each, generation=1):
    return {"observedGeneration": generation, "conditions": [dict(one) for one in each]}


def condition(kind, status="True", **more):
    return {"type": kind, "status": status, **more}


@pytest.mark.parametrize("kind", KAFKA_KINDS)
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, "Progressing"),
        ({}, "Progressing"),
        (conditions(), "Progressing"),
        (conditions(condition("Ready")), "Healthy"),
        (conditions(condition("Ready", "False")), "Progressing"),
        (conditions(condition("NotReady", reason="Creating")), "Progressing"),
        (conditions(condition("NotReady", reason="InvalidResourceException", message="no such")), "Degraded"),
        (conditions(condition("Warning", reason="x"), condition("Ready")), "Healthy"),
        (conditions(condition("ReconciliationPaused")), "Suspended"),
        (conditions(condition("Ready"), generation=0), "Progressing"),
    ],
)
def test_kafka_and_what_is_in_it(kind, status, expected):
    assert health(kind, status)[0] == expected


def test_what_is_wrong_with_kafka_is_said():
    wrong = condition("NotReady", reason="InvalidResourceException", message="3 replicas on 1 broker")
    assert health("Kafka", conditions(wrong)) == ("Degraded", "3 replicas on 1 broker")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("", "Progressing"),
        ("SUBMITTED", "Progressing"),
        ("RUNNING", "Healthy"),
        ("COMPLETED", "Healthy"),
        ("FAILED", "Degraded"),
        ("SUBMISSION_FAILED", "Degraded"),
        ("PENDING_RERUN", "Progressing"),
        ("INVALIDATING", "Progressing"),
        ("SUCCEEDING", "Progressing"),
        ("FAILING", "Progressing"),
        ("SUSPENDING", "Progressing"),
        ("SUSPENDED", "Suspended"),
        ("RESUMING", "Progressing"),
        ("UNKNOWN", "Unknown"),
        ("A STATE OF TOMORROW", "Unknown"),
    ],
)
def test_spark_applications(state, expected):
    assert health("SparkApplication", {"applicationState": {"state": state}})[0] == expected


def test_a_spark_application_that_nobody_looked_at_and_one_with_an_error():
    assert health("SparkApplication") == ("Progressing", "the operator has not looked at it yet")
    failed = {"applicationState": {"state": "FAILED", "errorMessage": "driver container failed"}}
    assert health("SparkApplication", failed) == ("Degraded", "driver container failed")


@pytest.mark.parametrize("status", ["Healthy", "Progressing", "Degraded", "Missing"])
def test_an_application_is_as_healthy_as_argo_cd_says(status):
    assert health("Application", {"health": {"status": status, "message": "why"}}) == (status, "why")


def test_an_application_that_is_new_makes_the_next_wait():
    assert health("Application")[0] == "Progressing"
    assert health("Application", {})[0] == "Progressing"
    assert health("Application", {"health": {}})[0] == "Progressing"
