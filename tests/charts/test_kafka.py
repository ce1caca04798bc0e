"""Kafka's part of the chart: the cluster, its node pools, topics and users, against Strimzi's own definitions."""

import copy

import pytest

from tests.charts.render import by_name, render_chart
from tests.charts.schemas import problems

ONE_NODE = {
    "kafka": {
        "combinedNodes": True,
        "brokers": {"replicas": 1},
        "replicationFactor": 1,
        "minInsyncReplicas": 1,
        "rackTopologyKey": "",
        "listeners": {"plain": {"enabled": True}},
    }
}
LEAST = {"kafka": {"metrics": {"enabled": False}, "exporter": {"enabled": False}}}
EVERYTHING = {
    "environment": "production",
    "kafka": {
        "brokers": {"replicas": 5, "storage": {"class": "fast", "deleteClaim": True}},
        "controllers": {"replicas": 5, "storage": {"class": "fast"}},
        "config": {"log.retention.hours": 72, "compression.type": "producer"},
    },
    "topics": {"mine": {"partitions": 12, "replicas": 5, "config": {"retention.ms": 1000}}},
    "users": {"mine": {"read": ["mine"], "write": ["m*"], "manage": ["mine"], "groups": ["mine-*", "other"]}},
}


@pytest.mark.parametrize(
    "values", [{}, ONE_NODE, LEAST, EVERYTHING], ids=["default", "one node", "least", "everything"]
)
def test_every_object_is_what_strimzi_takes(values, definitions):
    objects = [each for each in render_chart(values) if each["apiVersion"].startswith("kafka.strimzi.io/")]
    assert {each["kind"] for each in objects} == set(definitions)
    for each in objects:
        assert problems(each, definitions[each["kind"]]) == []


def test_a_misspelt_field_would_be_found(definitions):
    [kafka] = by_name(render_chart(), "Kafka").values()
    wrong = copy.deepcopy(kafka)
    wrong["spec"]["kafka"]["listeners"][0]["tsl"] = True
    assert any("tsl" in problem for problem in problems(wrong, definitions["Kafka"]))
    assert "not served" in problems({**kafka, "apiVersion": "kafka.strimzi.io/v1beta2"}, definitions["Kafka"])[0]


def test_names_are_unique_and_every_object_is_labelled():
    objects = render_chart(EVERYTHING)
    assert len({(each["kind"], each["metadata"]["name"]) for each in objects}) == len(objects)
    for each in objects:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "millrace"
        if each["kind"] in ("KafkaNodePool", "KafkaTopic", "KafkaUser"):
            assert each["metadata"]["labels"]["strimzi.io/cluster"] == "millrace"


def test_controllers_and_brokers_are_apart_unless_combined():
    pools = by_name(render_chart(), "KafkaNodePool")
    assert {name: pool["spec"]["roles"] for name, pool in pools.items()} == {
        "broker": ["broker"],
        "controller": ["controller"],
    }
    [combined] = by_name(render_chart(ONE_NODE), "KafkaNodePool").values()
    assert combined["spec"]["roles"] == ["controller", "broker"]
    assert combined["spec"]["replicas"] == 1


def test_only_encrypted_and_authenticated_clients_by_default():
    [kafka] = by_name(render_chart(), "Kafka").values()
    [listener] = kafka["spec"]["kafka"]["listeners"]
    assert (listener["port"], listener["tls"], listener["authentication"]["type"]) == (9093, True, "scram-sha-512")
    assert kafka["spec"]["kafka"]["authorization"] == {"type": "simple"}


def test_replication_reaches_kafka_s_own_topics_and_ours():
    objects = render_chart()
    [kafka] = by_name(objects, "Kafka").values()
    config = kafka["spec"]["kafka"]["config"]
    factors = {value for name, value in config.items() if name.endswith("replication.factor")}
    assert factors == {3}
    assert config["min.insync.replicas"] == config["transaction.state.log.min.isr"] == 2
    assert {topic["spec"]["replicas"] for topic in by_name(objects, "KafkaTopic").values()} == {3}


def test_topics_can_be_changed_added_and_left_out():
    changes = {"events": {"partitions": 24, "config": {"retention.ms": "1"}}, "mine": {"partitions": 1}}
    topics = by_name(render_chart({"topics": {**changes, "output-topic": None}}), "KafkaTopic")
    assert topics["events"]["spec"]["partitions"] == 24
    assert topics["events"]["spec"]["config"]["retention.ms"] == "1"
    assert topics["events"]["spec"]["config"]["compression.type"] == "lz4"
    assert "mine" in topics
    assert "output-topic" not in topics


def rights(user):
    """What a user may do: (type, name, pattern) to operations."""
    return {
        (rule["resource"]["type"], rule["resource"]["name"], rule["resource"]["patternType"]): set(rule["operations"])
        for rule in user["spec"]["authorization"]["acls"]
    }


def test_each_user_may_do_what_it_needs_and_no_more():
    users = by_name(render_chart(), "KafkaUser")
    windows = rights(users["event-windows"])
    assert windows == {
        ("topic", "events", "literal"): {"Read", "Describe"},
        ("topic", "event-windows", "literal"): {"Write", "Describe"},
        ("topic", "events-dead-letter", "literal"): {"Write", "Describe"},
        ("group", "spark-kafka-", "prefix"): {"Read", "Describe"},
    }
    ingest = rights(users["ingest"])
    assert all(operations == {"Write", "Describe"} for operations in ingest.values())
    assert ("topic", "event-windows", "literal") not in ingest
    assert {kind for kind, _, _ in rights(users["airflow"])} == {"topic", "group"}
    for user in users.values():
        assert user["spec"]["authentication"] == {"type": "scram-sha-512"}
