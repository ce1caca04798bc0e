"""Makes a Kafka as its resources say: one pass, which waits for nothing and says what is still to be waited for."""

import base64
import logging
import uuid
from typing import Any

from tests.cluster.standins.strimzi import access, certificates, conditions, names, parts, pods, secrets
from tests.cluster.standins.strimzi.api import Api
from tests.cluster.standins.strimzi.certificates import Pair
from tests.cluster.standins.strimzi.clusters import KAFKA_VERSION, METADATA_VERSION, Cluster, read
from tests.cluster.standins.strimzi.metrics import Metrics

_LOG = logging.getLogger(__name__)


class Reconciler:
    """Applies Kafkas with the rights of the cluster operator."""

    def __init__(self, api: Api, image: str, metrics: Metrics, budgets: bool = True) -> None:
        self._api, self._image, self._metrics, self._budgets = api, image, metrics, budgets

    def reconcile(self, kafka: dict[str, Any]) -> str:
        """Do what can be done now. Return what is to be waited for, as a sentence, or nothing when all is ready.

        Raises RefusedError for what the stand-in can't, ApiError for what the API server doesn't let it.
        """
        api = self._api
        namespace, name = kafka["metadata"]["namespace"], kafka["metadata"]["name"]
        found = read(kafka, api.find("KafkaNodePool", namespace, f"{names.CLUSTER}={name}"))
        cluster_id = self._cluster_id(found)
        authority = self._authorities(found)
        budgets = [access.disruption_budget(found)] if self._budgets else []
        for each in [*access.accounts(found), *access.services(found), *budgets]:
            api.apply(each)
        waiting = self._node(found, cluster_id, authority)
        if not waiting:
            waiting = self._parts(found, authority)
        if not waiting:
            self._tell(found, cluster_id, authority)
        return waiting

    def _cluster_id(self, cluster: Cluster) -> str:
        """Return the cluster's identity, which its volumes remember: said in the status before any of them exists."""
        known = (cluster.kafka.get("status") or {}).get("clusterId")
        if known:
            return known
        made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        status = conditions.status(cluster.kafka, conditions.not_ready("Creating", "Kafka cluster is being deployed"))
        answer = self._api.patch(cluster.kafka, {"status": {**status, "clusterId": made}}, "status")
        return answer["status"]["clusterId"]

    def _authorities(self, cluster: Cluster) -> Pair:
        """Return the authority of the cluster's own parts, having made it and that of clients."""
        found = {name: secrets.authority(self._api, cluster, name) for name in ("cluster-ca", "clients-ca")}
        for name, pair in found.items():
            ends = certificates.expires(pair.certificate).timestamp()
            shown = name.replace("clients", "client")
            self._metrics.certificate(cluster.name, cluster.namespace, shown, ends)
        return found["cluster-ca"]

    def _node(self, cluster: Cluster, cluster_id: str, authority: Pair) -> str:
        services = (names.bootstrap_service(cluster.name), names.brokers_service(cluster.name))
        hosts = [host for each in services for host in names.service_names(each, cluster.namespace)]
        own = names.pod_name_of(cluster.name, cluster.namespace, cluster.node)
        hosts += [own, f"{own}.{names.domain()}"]
        node = f"{cluster.name}-kafka"
        keys = secrets.signed(self._api, cluster, authority, cluster.node, cluster.node, node, hosts)
        settings = pods.configuration(cluster, cluster_id)
        self._api.apply(settings)
        self._api.apply(pods.claim(cluster))
        self._end_others(cluster)
        return self._pod(pods.pod(cluster, self._image, settings, keys))

    def _end_others(self, cluster: Cluster) -> None:
        """End the pods of pools that are gone."""
        selector = ",".join(f"{name}={value}" for name, value in names.selector(cluster.labels()).items())
        for each in self._api.find("Pod", cluster.namespace, selector):
            if each["metadata"]["name"] != cluster.node and "deletionTimestamp" not in each["metadata"]:
                self._api.delete("Pod", each["metadata"])

    def _pod(self, wanted: dict[str, Any]) -> str:
        name = wanted["metadata"]["name"]
        found = self._api.get("Pod", wanted["metadata"]["namespace"], name)
        if found is None:
            _LOG.info("Pod %s is made.", name)
            self._api.create(wanted)
            return f"pod {name} to start"
        if "deletionTimestamp" in found["metadata"]:
            return f"pod {name} to end"
        revisions = [each["metadata"].get("annotations", {}).get(pods.REVISION) for each in (found, wanted)]
        if revisions[0] != revisions[1] or found["status"]["phase"] in ("Failed", "Succeeded"):
            _LOG.info("Pod %s is replaced: revision %s is to be %s.", name, *revisions)
            self._api.delete("Pod", found["metadata"])
            return f"pod {name} to end"
        return "" if conditions.is_ready(found) else f"pod {name} to be ready"

    def _parts(self, cluster: Cluster, authority: Pair) -> str:
        wanted = {}
        present = access.present(cluster)
        if "entity-operator" in present:
            operators = [f"{cluster.name}-entity-{each}-operator" for each in parts.OPERATORS]
            signed = [self._client(cluster, authority, each) for each in operators]
            keys = dict(zip(parts.OPERATORS, signed, strict=True))
            wanted["entity-operator"] = parts.entity_operator(cluster, self._image, keys)
        if "kafka-exporter" in present:
            keys_of_exporter = self._client(cluster, authority, f"{cluster.name}-kafka-exporter")
            wanted["kafka-exporter"] = parts.exporter(cluster, self._image, keys_of_exporter)
        for part in ("entity-operator", "kafka-exporter"):
            old = self._api.get("Deployment", cluster.namespace, f"{cluster.name}-{part}")
            if part not in wanted and old:
                self._api.delete("Deployment", old["metadata"])
        unready = [each for each in wanted.values() if not _available(self._api.apply(each))]
        return " and ".join(f"deployment {each['metadata']['name']} to be available" for each in unready)

    def _client(self, cluster: Cluster, authority: Pair, name: str) -> Pair:
        return secrets.signed(self._api, cluster, authority, f"{name}-certs", "client", name)

    def _tell(self, cluster: Cluster, cluster_id: str, authority: Pair) -> None:
        """Write that all is as the resources say."""
        host = f"{names.bootstrap_service(cluster.name)}.{cluster.namespace}.svc"
        listeners = [
            {
                "name": each["name"],
                "addresses": [{"host": host, "port": each["port"]}],
                "bootstrapServers": f"{host}:{each['port']}",
                **({"certificates": [authority.certificate]} if each["tls"] else {}),
            }
            for each in cluster.spec["listeners"]
        ]
        _, ignored = cluster.settings()
        warnings = [conditions.warning(f"spec.kafka.config may not have {name}: it is ignored") for name in ignored]
        self._status(
            cluster.kafka,
            [*warnings, *conditions.ready()],
            listeners=listeners,
            clusterId=cluster_id,
            kafkaVersion=KAFKA_VERSION,
            kafkaMetadataVersion=METADATA_VERSION,
            kafkaNodePools=[{"name": cluster.pool.name}],
        )
        selector = {**names.selector(cluster.labels()), "strimzi.io/pool-name": cluster.pool.name}
        self._status(
            cluster.pool.resource,
            [],
            nodeIds=[0],
            clusterId=cluster_id,
            roles=cluster.pool.spec["roles"],
            replicas=1,
            labelSelector=",".join(f"{name}={value}" for name, value in selector.items()),
        )

    def _status(self, of: dict[str, Any], found: list[dict[str, Any]], **fields: Any) -> None:
        status = conditions.status(of, found, **fields)
        if {**(of.get("status") or {}), **status} != of.get("status"):
            self._api.patch(of, {"status": status}, "status")


def _available(deployment: dict[str, Any]) -> bool:
    observed = (deployment.get("status") or {}).get("observedGeneration") == deployment["metadata"]["generation"]
    return observed and conditions.is_ready(deployment, "Available")
