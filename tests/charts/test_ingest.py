"""Feeds: Deployments whose arguments the real command line takes, and values that it would not."""

import pytest

from ingest.__main__ import parser
from tests.charts.render import RenderError, by_name, render_chart

FEED = {
    "name": "market",
    "arguments": ["simulate-market", "--rate", "50", "--start-time", "now"],
    "topic": "market-data",
}


def feeds(*feeds, **values):
    return render_chart({"ingest": {"feeds": list(feeds)}, **values})


def container(objects, name="ingest-market"):
    [found] = by_name(objects, "Deployment")[name]["spec"]["template"]["spec"]["containers"]
    return found


def test_there_are_none_by_default():
    assert not [name for name in by_name(render_chart(), "Deployment") if name.startswith("ingest")]


def test_the_command_line_takes_a_feed_s_arguments():
    found = container(feeds(FEED))
    assert "command" not in found  # the image's entry point is `python -m ingest`
    arguments = parser().parse_args(found["args"])
    assert (arguments.command, arguments.topic, arguments.rate) == ("simulate-market", "market-data", 50)
    [port] = found["ports"]
    assert arguments.metrics_port == port["containerPort"]
    assert port["name"] == found["livenessProbe"]["httpGet"]["port"] == "metrics"


def test_the_command_line_takes_a_live_feed_and_may_read_and_write_its_topics():
    live = {"name": "binance", "arguments": ["feed", "binance-btc-usdt"], "topic": "market-data"}
    objects = feeds(live)
    found = container(objects, "ingest-binance")
    arguments = parser().parse_args(found["args"])
    assert (arguments.command, arguments.name, arguments.topic) == ("feed", "binance-btc-usdt", "market-data")
    assert (found["livenessProbe"]["httpGet"]["path"], found["readinessProbe"]["httpGet"]["path"]) == (
        "/healthz",
        "/readyz",
    )
    acls = by_name(objects, "KafkaUser")["ingest"]["spec"]["authorization"]["acls"]
    may = {(acl["resource"]["name"], operation) for acl in acls for operation in acl["operations"]}
    assert {("market-data", "Read"), ("market-data", "Write"), ("market-data-dead-letter", "Write")} <= may


def test_credentials_come_from_secrets_and_the_rest_from_the_configmap():
    found = container(feeds(FEED))
    assert found["envFrom"] == [{"configMapRef": {"name": "millrace"}}]
    secrets = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in found["env"] if "valueFrom" in each}
    assert secrets == {
        "KAFKA_USERNAME": {"name": "kafka-user-ingest", "key": "username"},
        "KAFKA_PASSWORD": {"name": "kafka-user-ingest", "key": "password"},
    }
    plain = {"listeners": {"plain": {"enabled": True}, "tls": {"enabled": False}}}
    found = container(feeds(FEED, kafka=plain))
    assert "env" not in found
    assert [mount["name"] for mount in found["volumeMounts"]] == ["temporary"]


HUBS = {
    "name": "hubs",
    "arguments": ["event-hubs", "--event-hub", "trades"],
    "topic": "market-data",
    "secrets": {"EVENT_HUBS_CONNECTION_STRING": {"name": "event-hubs", "key": "connection-string"}},
}
TABLE = {
    "name": "table",
    "arguments": ["persist", "--to", "$(MILLRACE_STORAGE)/tables/market-data-raw"],
    "topic": "market-data",
    "objectStore": True,
    "replicas": 2,
}


def secrets(found):
    return {each["name"]: tuple(each["valueFrom"]["secretKeyRef"].values()) for each in found["env"]}


def test_a_feed_takes_secrets_of_its_own():
    found = container(feeds(HUBS), "ingest-hubs")
    assert secrets(found)["EVENT_HUBS_CONNECTION_STRING"] == ("connection-string", "event-hubs")
    arguments = parser().parse_args(found["args"])
    assert (arguments.command, arguments.event_hub, arguments.topic) == ("event-hubs", "trades", "market-data")


def test_what_writes_to_the_object_store_has_its_keys_and_nothing_else_has():
    objects = feeds(FEED, TABLE)
    found = container(objects, "ingest-table")
    assert secrets(found).keys() - secrets(container(objects)).keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert secrets(found)["AWS_ACCESS_KEY_ID"] == ("access-key", "object-store")


def test_members_of_a_consumer_group_share_the_work():
    objects = feeds(TABLE)
    assert by_name(objects, "Deployment")["ingest-table"]["spec"]["replicas"] == 2
    arguments = parser().parse_args(container(objects, "ingest-table")["args"])
    # Kubernetes puts the variable in, which the ConfigMap has.
    assert arguments.to == "$(MILLRACE_STORAGE)/tables/market-data-raw"
    assert by_name(objects, "ConfigMap")["millrace"]["data"]["MILLRACE_STORAGE"] == "s3a://millrace"


def test_persist_needs_to_read_its_topic_only():
    output = {**TABLE, "topic": "event-windows"}
    with pytest.raises(RenderError, match=r"ingest may not read: add it to users\.ingest\.read"):
        feeds(output)
    container(feeds(output, users={"ingest": {"read": ["event-windows"]}}), "ingest-table")


def test_a_feed_sends_everything_once():
    deployment = by_name(feeds(FEED), "Deployment")["ingest-market"]
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}


def test_a_changed_environment_starts_feeds_anew():
    def checksum(**values):
        deployment = by_name(feeds(FEED, **values), "Deployment")["ingest-market"]
        return deployment["spec"]["template"]["metadata"]["annotations"]["checksum/environment"]

    assert checksum() == checksum() != checksum(kafka={"name": "other"})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"topic": "market"}, ["market has the topic market, which does not exist", "topics.market"]),
        ({"topic": "event-windows"}, ["ingest may not write", "users.ingest.write"]),
        ({"arguments": ["feeds"]}, ["market runs feeds, which ends"]),
        ({"internetPorts": [0]}, ["internetPorts", "minimum"]),
        ({"arguments": ["replay"]}, ["market runs replay, which ends", "let Airflow start it"]),
        ({"arguments": ["simulate-market", "--count", "5"]}, ["argument --count", "leave it out"]),
        ({"arguments": ["simulate-market", "--topic=other"]}, ["argument --topic", "set by `topic`"]),
        ({"arguments": []}, ["arguments", "minItems"]),
        ({"name": "Market"}, ["name", "does not match pattern"]),
        ({"rate": 50}, ["rate", "not allowed"]),
        ({"arguments": ["orders"]}, ["market runs orders, which ends"]),
        ({"replicas": 2}, ["market has 2 replicas", "leave replicas out"]),
        ({"replicas": 0}, ["replicas", "minimum"]),
        ({"arguments": ["persist", "--to", "s3://b/t"]}, ["market writes a table", "set its objectStore to true"]),
        ({"arguments": ["persist", "--to", "s3://b/t", "--until-end"]}, ["argument --until-end", "leave it out"]),
        ({"secrets": {"TOKEN": "abc"}}, ["TOKEN", "want object"]),
        ({"secrets": {"TOKEN": {"name": "a"}}}, ["TOKEN", "missing property", "key"]),
    ],
)
def test_a_feed_that_makes_no_sense_is_refused(changes, words):
    with pytest.raises(RenderError) as refused:
        feeds({**FEED, **changes})
    for word in words:
        assert word in str(refused.value)


def test_two_feeds_of_one_name_are_refused():
    with pytest.raises(RenderError, match="names market twice"):
        feeds(FEED, FEED)
