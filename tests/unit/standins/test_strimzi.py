"""The pure parts of the stand-in for Strimzi, on what our chart renders."""

import copy
import subprocess
import sys

import pytest
import yaml

from embedded.paths import REPOSITORY
from tests.charts.pod_security import violations
from tests.charts.render import EVERYTHING, by_name, of_kind, render_chart
from tests.charts.traffic import Pod, allowed
from tests.cluster.standins.strimzi import access, certificates, conditions, parts, pods, properties, topics
from tests.cluster.standins.strimzi.acls import bindings
from tests.cluster.standins.strimzi.clusters import KAFKA_VERSION, RefusedError, read
from tests.embedded.secured_broker import acl_bindings

KIND = REPOSITORY / "k8s" / "environments" / "kind" / "millrace.yaml"
CHART = REPOSITORY / "tests" / "cluster" / "standins" / "charts" / "strimzi-kafka-operator"
RELEASE = yaml.safe_load((REPOSITORY / "k8s" / "releases" / "strimzi.yaml").read_text())


@pytest.fixture(scope="module")
def objects():
    """What the chart renders for kind."""
    return render_chart(files=(KIND,))


@pytest.fixture
def resources(objects):
    """The Kafka and its pools, as the API server would give them."""
    [kafka] = copy.deepcopy(of_kind(objects, "Kafka"))
    kafka["metadata"] |= {"uid": "uid-of-kafka", "generation": 1}
    return kafka, copy.deepcopy(of_kind(objects, "KafkaNodePool"))


@pytest.fixture
def cluster(resources):
    return read(*resources)


@pytest.fixture
def made(cluster):
    """The pods that are made, by name, each with its labels and spec."""
    keys = certificates.sign(certificates.authority("cluster-ca"), "client")
    node = pods.pod(cluster, "image", pods.configuration(cluster, "id"), keys)
    operators = parts.entity_operator(cluster, "image", {"topic": keys, "user": keys})
    deployments = [operators, parts.exporter(cluster, "image", keys)]
    return {node["metadata"]["name"]: node} | {
        each["metadata"]["name"]: each["spec"]["template"] for each in deployments
    }


def test_the_settings_are_the_resource_s_and_what_secures_the_listeners(cluster):
    found = properties.server_properties(cluster)
    assert found["auto.create.topics.enable"] == "false"
    assert found["offsets.topic.replication.factor"] == "1"
    assert found["log.dirs"] == "/var/lib/kafka/data-0/kafka-log0"
    protocols = dict(each.split(":") for each in found["listener.security.protocol.map"].split(","))
    assert protocols == {"CONTROLPLANE-9090": "SSL", "REPLICATION-9091": "SSL", "TLS-9093": "SASL_SSL"}
    for listener in ("controlplane-9090", "replication-9091"):
        assert found[f"listener.name.{listener}.ssl.client.auth"] == "required"
    assert found["authorizer.class.name"].endswith("StandardAuthorizer")
    assert "ANONYMOUS" not in found["super.users"]
    assert all(each.endswith(",O=io.strimzi") for each in found["super.users"].split(";"))
    assert "kafka_log_log_size" in found["prometheus.metrics.reporter.allowlist"]


def test_a_setting_of_the_operator_s_is_ignored_and_told(resources):
    kafka, pools = resources
    kafka["spec"]["kafka"]["config"] |= {"listeners": "X://:1", "broker.session.timeout.ms": 9000, "log.dirs": "/x"}
    given, ignored = read(kafka, pools).settings()
    assert ignored == ["listeners", "log.dirs"]
    assert given["broker.session.timeout.ms"] == "9000"


def test_what_it_can_t_is_refused(resources):
    kafka, pools = resources
    with pytest.raises(RefusedError, match="one node"):
        read(kafka, [{**pools[0], "spec": {**pools[0]["spec"], "replicas": 3}}])
    with pytest.raises(RefusedError, match="one node"):
        read(kafka, [])
    for change in ({"rack": {"topologyKey": "zone"}}, {"version": "4.2.0"}, {"authorization": {"type": "opa"}}):
        with pytest.raises(RefusedError):
            read({**kafka, "spec": {**kafka["spec"], "kafka": {**kafka["spec"]["kafka"], **change}}}, pools)


def test_its_kafka_is_the_one_that_is_pinned():
    assert yaml.safe_load((REPOSITORY / "versions.yaml").read_text())["kafka"]["version"] == KAFKA_VERSION


def test_production_is_refused():
    values = {"postgresql": {"enabled": False, "external": {"cidrs": ["192.0.2.1/32"]}}}
    rendered = render_chart(values)
    [kafka] = of_kind(rendered, "Kafka")
    with pytest.raises(RefusedError):
        read(kafka, of_kind(rendered, "KafkaNodePool"))


def test_pods_are_restricted(made):
    assert set(made) >= {"millrace-combined-0", "millrace-entity-operator", "millrace-kafka-exporter"}
    for pod in made.values():
        assert violations(pod["spec"]) == []


def test_monitors_find_the_pods_and_their_ports(objects, made):
    for job, name in {
        "kafka": "millrace-combined-0",
        "kafka-exporter": "millrace-kafka-exporter",
        "entity-operator": "millrace-entity-operator",
    }.items():
        monitor = by_name(objects, "PodMonitor")[f"millrace-{job}"]["spec"]
        assert monitor["selector"]["matchLabels"].items() <= made[name]["metadata"]["labels"].items()
        ports = {port["name"] for each in made[name]["spec"]["containers"] for port in each["ports"]}
        assert {each["port"] for each in monitor["podMetricsEndpoints"]} <= ports


def test_policies_let_the_parts_through(objects, made):
    policies = of_kind(objects, "NetworkPolicy")
    peers = {name: Pod("millrace", pod["metadata"]["labels"]) for name, pod in made.items()}
    kafka, entity, exporter = (
        peers[name] for name in ("millrace-combined-0", "millrace-entity-operator", "millrace-kafka-exporter")
    )
    for source, port in ((kafka, 9090), (kafka, 9091), (entity, 9091), (exporter, 9091)):
        assert allowed(policies, source, kafka, port)
    assert allowed(policies, entity, "10.96.0.1", 443)
    assert not allowed(policies, exporter, "10.96.0.1", 443)


def test_a_change_is_another_revision(resources):
    kafka, pools = resources
    keys = certificates.sign(certificates.authority("cluster-ca"), "node", ["host"])

    def revision():
        cluster = read(kafka, pools)
        found = pods.pod(cluster, "image", pods.configuration(cluster, "id"), keys)
        return found["metadata"]["annotations"][pods.REVISION]

    before = revision()
    assert revision() == before
    kafka["spec"]["kafka"]["config"]["log.cleaner.threads"] = 2
    changed = revision()
    assert changed != before
    pools[0]["spec"]["resources"]["limits"]["memory"] = "2Gi"
    assert revision() not in (before, changed)


def test_java_s_options():
    given = {"-Xms": "640m", "-Xmx": "640m", "-XX": {"UseZGC": True, "MaxGCPauseMillis": 5}}
    assert pods.jvm_options(given) == ["-Xms640m", "-Xmx640m", "-XX:+UseZGC", "-XX:MaxGCPauseMillis=5"]


def test_the_volume_goes_with_the_kafka_only_where_the_pool_says_so(resources):
    kafka, pools = resources
    assert pods.claim(read(kafka, pools))["metadata"]["ownerReferences"]
    pools[0]["spec"]["storage"]["volumes"][0]["deleteClaim"] = False
    claim = pods.claim(read(kafka, pools))
    assert claim["metadata"]["name"] == "data-0-millrace-combined-0"
    assert claim["metadata"]["ownerReferences"] == []


def test_users_rules_are_those_that_our_other_tests_give():
    for name, user in by_name(render_chart(files=(EVERYTHING,)), "KafkaUser").items():
        rules = user["spec"]["authorization"]["acls"]
        named = [rule for rule in rules if "name" in rule["resource"]]
        assert bindings(name, named) == {each for rule in named for each in acl_bindings(name, rule)}
        assert len(bindings(name, rules)) >= len(bindings(name, named))


def test_what_changes_of_a_topic():
    found = {"retention.ms": "1", "compression.type": "lz4"}
    wanted = topics.settings({"config": {"retention.ms": 2, "preallocate": True, "segment.bytes": None}})
    assert wanted == {"retention.ms": "2", "preallocate": "true"}
    assert topics.changes(found, wanted) == {"retention.ms": "2", "preallocate": "true", "compression.type": None}


def test_certificates_are_good_for_their_hosts_and_their_authority_only():
    authority, other = certificates.authority("cluster-ca"), certificates.authority("cluster-ca")
    pair = certificates.sign(authority, "millrace-kafka", ["a", "b"])
    assert certificates.good(pair.certificate, authority.certificate, ["b", "a"])
    assert not certificates.good(pair.certificate, authority.certificate, ["a"])
    assert not certificates.good(pair.certificate, other.certificate, ["a", "b"])


def test_a_condition_keeps_its_time():
    resource = {"metadata": {"generation": 2}}
    first = conditions.status(resource, conditions.ready())
    again = conditions.status({**resource, "status": first}, conditions.ready())
    assert again == first
    assert not conditions.is_ready({"status": conditions.status(resource, conditions.not_ready("Creating", "why"))})


def test_the_chart_takes_the_release_s_values():
    rendered = render_chart(RELEASE, chart=CHART)
    [deployment] = by_name(rendered, "Deployment").values()
    assert deployment["metadata"]["name"] == "strimzi-cluster-operator"
    assert violations(deployment["spec"]["template"]["spec"]) == []
    monitor = by_name(render_chart(), "PodMonitor")["millrace-strimzi"]["spec"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert {each["name"] for each in container["ports"]} == {each["port"] for each in monitor["podMetricsEndpoints"]}


def test_the_operator_can_grant_what_it_grants(cluster):
    """Nobody may grant what they don't have themselves."""
    rendered = render_chart(RELEASE, chart=CHART)
    role = by_name(rendered, "ClusterRole")["strimzi-entity-operator"]
    assert role["rules"] == access.ENTITY_RULES
    bound = {each["metadata"]["namespace"] for each in of_kind(rendered, "RoleBinding")}
    assert "millrace" in bound


@pytest.mark.parametrize(
    "module", ["strimzi.cluster_operator", "strimzi.entity_operator", "strimzi.broker", "kafka_exporter"]
)
def test_each_program_can_be_imported_without_the_tests_own_packages(module):
    """The image has the stand-ins, and neither embedded/ nor what else the tests are made of."""
    code = f"import sys, tests.cluster.standins.{module}\n"
    code += "assert not [each for each in sys.modules if each.split('.')[0] in ('embedded', 'pytest')]"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)
