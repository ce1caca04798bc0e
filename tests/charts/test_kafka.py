"""Kafka's part of the chart: the cluster, its node pools, topics and users, against Strimzi's own definitions."""

import copy

import pytest
import yaml

from embedded.paths import REPOSITORY
from k8s.install.credentials import STREAM_USERS
from tests.charts.pod_security import violations
from tests.charts.render import EVERYTHING, by_name, render_chart
from tests.charts.schemas import STRIMZI_KINDS, problems

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
LEAST = {
    "kafka": {"metrics": {"enabled": False}, "exporter": {"enabled": False}},
    "networkPolicies": {"enabled": False},
    "priorityClasses": {"create": False, "data": "", "streams": ""},
}

SETTINGS = {
    path.parent.name: yaml.safe_load(path.read_text()) for path in REPOSITORY.glob("spark-apps/*/settings.yaml")
}
STREAMS = {app: settings for app, settings in SETTINGS.items() if "source" in settings}
"""Settings of the apps that reach a broker: a batch app has no user there."""


@pytest.mark.parametrize("values", [{}, ONE_NODE, LEAST], ids=["default", "one node", "least"])
def test_every_object_is_what_strimzi_takes(values, definitions):
    objects = [each for each in render_chart(values) if each["apiVersion"].startswith("kafka.strimzi.io/")]
    assert {each["kind"] for each in objects} == set(STRIMZI_KINDS)
    for each in objects:
        assert problems(each, definitions[each["kind"]]) == []
        if each["kind"] != "Kafka":
            assert each["metadata"]["labels"]["strimzi.io/cluster"] == "millrace"


def test_a_misspelt_field_would_be_found(definitions):
    [kafka] = by_name(render_chart(), "Kafka").values()
    wrong = copy.deepcopy(kafka)
    wrong["spec"]["kafka"]["listeners"][0]["tsl"] = True
    assert any("tsl" in problem for problem in problems(wrong, definitions["Kafka"]))
    assert "not served" in problems({**kafka, "apiVersion": "kafka.strimzi.io/v1beta2"}, definitions["Kafka"])[0]


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
    topics = by_name(
        render_chart({"topics": {**changes, "output-topic": None}, "users": {"adults": None}}), "KafkaTopic"
    )
    assert topics["events"]["spec"]["partitions"] == 24
    assert topics["events"]["spec"]["config"]["retention.ms"] == "1"
    assert topics["events"]["spec"]["config"]["compression.type"] == "zstd"
    assert "mine" in topics
    assert "output-topic" not in topics


def rights(user):
    """What a user may do: (type, name, pattern) to operations."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for rule in user["spec"]["authorization"]["acls"]:
        resource = rule["resource"]
        found.setdefault((resource["type"], resource["name"], resource["patternType"]), set()).update(
            rule["operations"]
        )
    return found


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
    assert ingest.pop(("group", "millrace-ingest-", "prefix")) == {"Read", "Describe"}
    # Dead letters are read to be sent back, and the topics they go to, to see what was sent already; no other topic.
    inputs = ("events", "market-data", "covid-updates", "air-quality", "input-topic", "orders")
    assert set(ingest) == {("topic", f"{name}{end}", "literal") for name in inputs for end in ("", "-dead-letter")}
    assert all(ingest[("topic", name, "literal")] == {"Read", "Write", "Describe"} for name in inputs)
    assert all("Read" in operations for operations in ingest.values())
    assert {kind for kind, _, _ in rights(users["airflow"])} == {"topic", "group"}
    assert "kafka-ui" not in users


@pytest.mark.parametrize("app", STREAMS)
def test_each_stream_s_user_has_the_topics_of_its_settings(app):
    settings = STREAMS[app]
    users = by_name(render_chart(), "KafkaUser")
    read, written = settings["source"]["topic"], {settings["sinks"]["kafka"]["topic"], settings["dead_letter"]["topic"]}
    assert rights(users[app]) == {
        ("topic", read, "literal"): {"Read", "Describe"},
        **{("topic", topic, "literal"): {"Write", "Describe"} for topic in written},
        ("group", "spark-kafka-", "prefix"): {"Read", "Describe"},
    }


def test_each_stream_and_nothing_else_in_its_namespace_has_a_password_made():
    assert set(STREAM_USERS) == {"ingest", *STREAMS}


def test_the_ui_s_user_comes_with_the_ui_and_changes_nothing():
    user = by_name(render_chart({"kafkaUi": {"enabled": True}}), "KafkaUser")["kafka-ui"]
    operations = {operation for acl in user["spec"]["authorization"]["acls"] for operation in acl["operations"]}
    assert operations == {"Describe", "DescribeConfigs", "Read"}


def test_each_user_s_password_comes_from_its_secret():
    for name, user in by_name(render_chart(files=(EVERYTHING,)), "KafkaUser").items():
        assert user["spec"]["authentication"] == {
            "type": "scram-sha-512",
            "password": {"valueFrom": {"secretKeyRef": {"name": f"kafka-user-{name}", "key": "password"}}},
        }


def test_pods_that_strimzi_makes_are_restricted():
    objects = render_chart(files=(EVERYTHING,))
    [kafka] = by_name(objects, "Kafka").values()
    templates = [pool["spec"]["template"] for pool in by_name(objects, "KafkaNodePool").values()]
    templates += [kafka["spec"][part]["template"] for part in ("entityOperator", "kafkaExporter")]
    for template in templates:
        containers = [{"name": name, **each} for name, each in template.items() if name.lower().endswith("container")]
        assert containers
        assert violations({**template["pod"], "containers": containers}) == []


@pytest.mark.parametrize(("environment", "rule"), [("production", "DoNotSchedule"), ("staging", "ScheduleAnyway")])
def test_brokers_are_spread_over_zones_and_nodes(environment, rule):
    values = {"environment": environment, "postgresql": {"enabled": False, "external": {"cidrs": ["192.0.2.1/32"]}}}
    objects = render_chart(values)
    [kafka] = by_name(objects, "Kafka").values()
    assert kafka["spec"]["kafka"]["rack"] == {"topologyKey": "topology.kubernetes.io/zone"}
    assert kafka["spec"]["kafka"]["template"]["podDisruptionBudget"] == {"maxUnavailable": 1}
    for name, pool in by_name(objects, "KafkaNodePool").items():
        constraints = pool["spec"]["template"]["pod"]["topologySpreadConstraints"]
        assert {each["topologyKey"]: each["whenUnsatisfiable"] for each in constraints} == {
            "topology.kubernetes.io/zone": rule,
            "kubernetes.io/hostname": rule,
        }
        assert {each["labelSelector"]["matchLabels"]["strimzi.io/pool-name"] for each in constraints} == {name}
