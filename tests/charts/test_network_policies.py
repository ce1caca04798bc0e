"""Who may speak to whom: each need is let through, and what nobody needs is not."""

import pytest

from tests.charts.render import EVERYTHING, by_name, of_kind, render_chart
from tests.charts.traffic import Pod, allowed

VALUES = {
    "kafkaUi": {"enabled": True},
    "historyServer": {"enabled": True},
    "ingest": {"feeds": [{"name": "one", "arguments": ["simulate-events"], "topic": "events"}]},
    "networkPolicies": {"uiClients": ["ingress"], "apiServer": {"cidrs": ["192.0.2.1/32"], "ports": [6443]}},
}
API_SERVER, INTERNET = "192.0.2.1", "198.51.100.7"


def strimzi(name, kind="Kafka"):
    return Pod(
        "millrace", {"strimzi.io/cluster": "millrace", "strimzi.io/name": f"millrace-{name}", "strimzi.io/kind": kind}
    )


def ours(name, namespace="millrace", component=""):
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": "millrace"}
    return Pod(namespace, {**labels, "app.kubernetes.io/component": component})


def airflow(component):
    return Pod("airflow", {"tier": "airflow", "component": component, "release": "airflow"})


PODS = {
    "kafka": strimzi("kafka"),
    "entity-operator": strimzi("entity-operator"),
    "kafka-exporter": strimzi("kafka-exporter"),
    "postgresql": ours("postgresql"),
    "object-store": ours("object-store"),
    "kafka-ui": ours("kafka-ui"),
    "history-server": ours("history-server"),
    "driver": Pod("streams", {"spark-role": "driver"}),
    "executor": Pod("streams", {"spark-role": "executor"}),
    "feed": ours("ingest-one", "streams", "ingest"),
    "generator": Pod("streams", {"app.kubernetes.io/component": "ingest"}),
    "worker": airflow("worker"),
    "triggerer": airflow("triggerer"),
    "dag-processor": airflow("dag-processor"),
    "scheduler": airflow("scheduler"),
    "api-server": airflow("api-server"),
    "statsd": airflow("statsd"),
    "migration": airflow("run-airflow-migrations"),
    "create-user": airflow("create-user-job"),
    "somebody in millrace": Pod("millrace"),
    "somebody in streams": Pod("streams"),
    "somebody in airflow": Pod("airflow"),
    "strimzi": Pod("strimzi", {"strimzi.io/kind": "cluster-operator"}),
    "prometheus": Pod("monitoring", {"app.kubernetes.io/name": "prometheus"}),
    "ingress": Pod("ingress"),
    "somebody elsewhere": Pod("default"),
}
OURS = {name: pod for name, pod in PODS.items() if pod.namespace in {"millrace", "streams", "airflow"}}
DNS = Pod("kube-system", {"k8s-app": "kube-dns"})
ANY = 40123
"""Stands for the ports that executors choose by themselves."""

NEEDS = [
    # Kafka: clients, Kafka's own traffic, Strimzi's agent.
    ("driver executor feed generator worker triggerer dag-processor kafka-ui", "kafka", 9093),
    ("kafka strimzi", "kafka", 9090),
    ("kafka strimzi entity-operator kafka-exporter", "kafka", 9091),
    ("strimzi", "kafka", 8443),
    # Storage.
    ("scheduler api-server triggerer dag-processor migration create-user", "postgresql", 5432),
    ("driver executor worker triggerer dag-processor api-server history-server", "object-store", 7070),
    # Spark: scheduling of tasks, blocks, progress.
    ("executor", "driver", 7078),
    ("executor", "driver", 7079),
    ("driver executor", "executor", ANY),
    ("worker triggerer dag-processor", "driver", 8090),
    # Airflow's own: tasks, logs of what still runs.
    ("worker", "api-server", 8080),
    ("api-server", "worker", 8793),
    ("api-server", "triggerer", 8794),
    # Metrics.
    ("prometheus", "kafka", 9404),
    ("prometheus", "kafka-exporter", 9404),
    ("prometheus", "entity-operator", 8080),
    ("prometheus", "entity-operator", 8081),
    ("prometheus", "postgresql", 9187),
    ("prometheus", "driver", 4040),
    ("prometheus", "driver", 8090),
    ("prometheus", "feed", 8090),
    ("prometheus", "generator", 8090),
    ("prometheus", "statsd", 9102),
    # User interfaces.
    ("ingress", "kafka-ui", 8080),
    ("ingress", "history-server", 18080),
    ("ingress", "api-server", 8080),
]
NEED_API_SERVER = "kafka entity-operator driver scheduler worker triggerer dag-processor api-server"
"""For: its certificates; topics and users; executors; pods of tasks; applications; logs of pods."""
PORTS = {port for _, _, port in NEEDS} | {22, 80, 443, 2181, 6066, 6443, 7077, 8080, 9000, 9092, 9094, 10250}


@pytest.fixture(scope="module")
def policies():
    return of_kind(render_chart(VALUES), "NetworkPolicy")


@pytest.mark.parametrize("target", OURS)
def test_exactly_what_is_needed_gets_in(policies, target):
    needed = {(source, port) for sources, to, port in NEEDS if to == target for source in sources.split()}
    if target == "executor":
        needed |= {(source, port) for source, _ in needed for port in PORTS}
    passed = {
        (name, port) for name, pod in PODS.items() for port in PORTS if allowed(policies, pod, PODS[target], port)
    }
    assert passed == needed


@pytest.mark.parametrize("source", OURS)
def test_what_gets_out(policies, source):
    pod = PODS[source]
    assert allowed(policies, pod, API_SERVER, 6443) == (source in NEED_API_SERVER.split())
    assert not allowed(policies, pod, API_SERVER, 22)
    assert allowed(policies, pod, DNS, 53, "UDP")
    assert allowed(policies, pod, DNS, 53)
    assert not allowed(policies, pod, DNS, 443)
    assert not allowed(policies, pod, INTERNET, 443)
    assert not allowed(policies, pod, PODS["somebody elsewhere"], 443)


def test_kafka_reads_its_certificates_without_racks_too():
    policies = of_kind(render_chart({**VALUES, "kafka": {"rackTopologyKey": ""}}), "NetworkPolicy")
    assert allowed(policies, PODS["kafka"], API_SERVER, 6443)


def test_a_feed_whose_source_is_on_the_internet_reaches_it_there_and_nowhere_else(policies):
    feeds = [
        {"name": "one", "arguments": ["feed", "binance-btc-usdt"], "topic": "market-data", "internetPorts": [443, 9443]}
    ]
    policies = of_kind(render_chart({**VALUES, "ingest": {"feeds": feeds}}), "NetworkPolicy")
    for address in (INTERNET, "2001:db8::7"):
        assert [port for port in (22, 80, 443, 8443, 9443) if allowed(policies, PODS["feed"], address, port)] == [
            443,
            9443,
        ]
        assert not allowed(policies, PODS["generator"], address, 443)
    for address in ("10.1.2.3", "172.20.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "fd00::1"):
        assert not allowed(policies, PODS["feed"], address, 443)


def test_a_feed_that_writes_to_the_object_store_reaches_it():
    arguments = ["persist", "--to", "s3://millrace/tables/events"]
    feeds = [{"name": "one", "arguments": arguments, "topic": "events", "objectStore": True}]
    policies = of_kind(render_chart({**VALUES, "ingest": {"feeds": feeds}}), "NetworkPolicy")
    passed = [name for name, pod in PODS.items() if allowed(policies, pod, PODS["object-store"], 7070)]
    assert "feed" in passed
    assert "generator" not in passed
    assert not allowed(policies, PODS["feed"], INTERNET, 443)


def test_counters_reach_statsd(policies):
    passed = [name for name, pod in PODS.items() if allowed(policies, pod, PODS["statsd"], 9125, "UDP")]
    assert passed == ["worker", "triggerer", "dag-processor", "scheduler", "api-server"]


def test_what_is_yours_is_let_through():
    policies = of_kind(render_chart(files=(EVERYTHING,)), "NetworkPolicy")
    namespaces = {"streams": "data", "airflow": "orchestration"}

    def at(name):
        return Pod(namespaces.get(PODS[name].namespace, PODS[name].namespace), PODS[name].labels)

    assert allowed(policies, at("worker"), "192.0.2.25", 587)
    assert not allowed(policies, at("driver"), "192.0.2.25", 587)
    assert allowed(policies, at("executor"), Pod("clickhouse"), 8123)
    assert not allowed(policies, at("feed"), Pod("clickhouse"), 8123)
    assert allowed(policies, at("feed"), INTERNET, 9443)
    assert allowed(policies, at("driver"), PODS["kafka"], 9092)


def test_strimzi_s_own_policies_would_let_in_the_same_clients():
    objects = render_chart(VALUES)
    [cluster] = by_name(objects, "Kafka").values()
    [policy] = [each for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == "kafka"]
    [listener] = cluster["spec"]["kafka"]["listeners"]
    assert listener["networkPolicyPeers"] == policy["spec"]["ingress"][0]["from"]


def test_no_rule_is_open_by_an_empty_list():
    """A rule without `to` or `from`, or with an empty one, would let everything through."""
    for values in (VALUES, {"postgresql": {"enabled": False, "external": {"cidrs": ["192.0.2.1/32"]}}}):
        for policy in of_kind(render_chart(values), "NetworkPolicy"):
            rules = [(rule, "from") for rule in policy["spec"].get("ingress", [])]
            rules += [(rule, "to") for rule in policy["spec"].get("egress", [])]
            for rule, key in rules:
                assert rule[key], policy["metadata"]["name"]


def test_they_can_be_left_to_others():
    objects = render_chart({"networkPolicies": {"enabled": False}})
    assert not by_name(objects, "NetworkPolicy")
    [cluster] = by_name(objects, "Kafka").values()
    assert "networkPolicyPeers" not in cluster["spec"]["kafka"]["listeners"][0]
