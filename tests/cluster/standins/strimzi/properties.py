"""server.properties of a node."""

from tests.cluster.standins.strimzi import names
from tests.cluster.standins.strimzi.clusters import Cluster

DATA = "/var/lib/kafka"
KEYS = "/tmp/kafka"
KEY_STORE, AUTHORITY = f"{KEYS}/node.pem", f"{KEYS}/cluster-ca.pem"
NODE_ID = 0
INNER = {"CONTROLPLANE-9090": names.CONTROL_PLANE, "REPLICATION-9091": names.REPLICATION}


def server_properties(cluster: Cluster) -> dict[str, str]:
    """Return the settings of the one node, what the resource gives among them."""
    given, _ = cluster.settings()
    return given | _node(cluster) | _listeners(cluster) | _inner_listeners() | _rights(cluster) | _metrics(cluster)


def text(properties: dict[str, str]) -> str:
    """Return settings as a file of Java's properties."""
    # A backslash would begin an escape.
    return "".join(f"{name}={value}\n".replace("\\", "\\\\") for name, value in properties.items())


def log_directory(cluster: Cluster) -> str:
    """Return where the node keeps its data."""
    return f"{DATA}/data-{cluster.pool.volume['id']}/kafka-log{NODE_ID}"


def _node(cluster: Cluster) -> dict[str, str]:
    # With the cluster's domain, as the kubelet writes it to the pod's own /etc/hosts: the node finds itself at once.
    host = f"{names.pod_name_of(cluster.name, cluster.namespace, cluster.node)}.{names.domain()}"
    return {
        "node.id": str(NODE_ID),
        "process.roles": "broker,controller",
        "controller.quorum.voters": f"{NODE_ID}@{host}:{names.CONTROL_PLANE}",
        "controller.listener.names": "CONTROLPLANE-9090",
        "inter.broker.listener.name": "REPLICATION-9091",
        "log.dirs": log_directory(cluster),
    }


def _listeners(cluster: Cluster) -> dict[str, str]:
    ports = dict(INNER)
    protocols = dict.fromkeys(INNER, "SSL")
    extra = {}
    for each in cluster.spec["listeners"]:
        name = f"{each['name'].upper()}-{each['port']}"
        ports[name] = each["port"]
        protocols[name] = "SASL_SSL" if each["tls"] else "PLAINTEXT"
        if each["tls"]:
            at = f"listener.name.{name.lower()}"
            login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            extra[f"{at}.scram-sha-512.sasl.jaas.config"] = login
            extra[f"{at}.sasl.enabled.mechanisms"] = "SCRAM-SHA-512"
            extra |= {f"{at}.ssl.keystore.type": "PEM", f"{at}.ssl.keystore.location": KEY_STORE}
    host = names.pod_name_of(cluster.name, cluster.namespace, cluster.node)
    return extra | {
        "listeners": ",".join(f"{name}://0.0.0.0:{port}" for name, port in ports.items()),
        "advertised.listeners": ",".join(f"{name}://{host}:{port}" for name, port in ports.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "sasl.enabled.mechanisms": "",
    }


def _inner_listeners() -> dict[str, str]:
    """Both of the cluster's own listeners ask for a certificate that its authority has signed."""
    settings = {"ssl.client.auth": "required", "ssl.keystore.type": "PEM", "ssl.keystore.location": KEY_STORE}
    settings |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": AUTHORITY}
    return {f"listener.name.{name.lower()}.{key}": value for name in INNER for key, value in settings.items()}


def _rights(cluster: Cluster) -> dict[str, str]:
    if not cluster.secured:
        return {}
    users = [*names.super_users(cluster.name)]
    users += [f"User:{user}" for user in cluster.spec["authorization"].get("superUsers") or []]
    return {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": ";".join(users),
    }


def _metrics(cluster: Cluster) -> dict[str, str]:
    if "metricsConfig" not in cluster.spec:
        return {}
    allowed = (cluster.spec["metricsConfig"].get("values") or {}).get("allowList") or [".*"]
    return {
        "metric.reporters": "io.strimzi.kafka.metrics.KafkaPrometheusMetricsReporter",
        "kafka.metrics.reporters": "io.strimzi.kafka.metrics.YammerPrometheusMetricsReporter",
        "prometheus.metrics.reporter.listener": f"http://:{names.METRICS}",
        "prometheus.metrics.reporter.allowlist": ",".join(allowed),
    }
