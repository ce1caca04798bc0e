"""The cluster operator: looks after the Kafkas of the namespaces that it watches."""

import logging
import os
import time
from typing import Any

from tests.cluster.standins.strimzi import conditions, names
from tests.cluster.standins.strimzi.api import Api, ApiError
from tests.cluster.standins.strimzi.cluster import Reconciler
from tests.cluster.standins.strimzi.clusters import RefusedError
from tests.cluster.standins.strimzi.health import serve
from tests.cluster.standins.strimzi.metrics import Metrics
from tests.cluster.standins.strimzi.work import Changes, Key, Work, every, follow

PORT = 8080
WAIT_SECONDS, RETRY_SECONDS = 5.0, 20.0
_LOG = logging.getLogger(__name__)


class ClusterOperator:
    """The loop over all Kafkas."""

    def __init__(
        self, api: Api, image: str, namespaces: list[str], period: float, patience: float, budgets: bool = True
    ) -> None:
        """Prepare the loop.

        Args:
            api: connection.
            image: of the stand-ins.
            namespaces: that are watched.
            period: after so many seconds all Kafkas are looked at again.
            patience: after so many seconds, one that doesn't become ready has failed.
            budgets: whether PodDisruptionBudgets are made.
        """
        self.metrics = Metrics()
        self._api, self._namespaces, self._period, self._patience = api, namespaces, period, patience
        self._reconciler = Reconciler(api, image, self.metrics, budgets)
        self._work, self._kafkas, self._pools = Work(), Changes(), Changes()
        self._waiting_since: dict[Key, float] = {}
        self._synced: set[str] = set()

    def ready(self) -> bool:
        """Whether the Kafkas of all namespaces are known."""
        return self._synced == set(self._namespaces)

    def run(self) -> None:
        """Work for good."""
        for namespace in self._namespaces:
            follow(self._api, "Kafka", namespace, "", lambda *seen, of=namespace: self._kafka(of, *seen))
            follow(self._api, "KafkaNodePool", namespace, names.CLUSTER, self._pool)
            follow(self._api, "Pod", namespace, names.CLUSTER, self._pod)
        every(self._period, self._all)
        while True:
            self.look_at(self._work.take())

    def look_at(self, key: Key) -> None:
        """Make one Kafka as it says, or say in its status why not."""
        begun = time.monotonic()
        kafka: dict[str, Any] | None = None
        try:
            kafka = self._api.get("Kafka", *key)
            if kafka is None or "deletionTimestamp" in kafka["metadata"]:
                # What was made for it is deleted by Kubernetes, as it is its owner.
                self._gone(key)
            elif self._done(key, kafka):
                self.metrics.done("Kafka", key[0], time.monotonic() - begun)
        except (ApiError, RefusedError) as error:
            _LOG.warning("Kafka %s of %s: %s", key[1], key[0], error)
            self.metrics.done("Kafka", key[0], time.monotonic() - begun, failed=True)
            reason = error.reason if isinstance(error, RefusedError) else "KubernetesClientException"
            self._failed(kafka, reason, str(error))
            self._work.add(key, RETRY_SECONDS)

    def _done(self, key: Key, kafka: dict[str, Any]) -> bool:
        """Do what can be done now; return whether that was all. Raises RefusedError when that has taken too long."""
        waiting = self._reconciler.reconcile(kafka)
        if not waiting:
            self._waiting_since.pop(key, None)
            _LOG.info("Kafka %s of %s is as it says.", key[1], key[0])
            return True
        self._work.add(key, WAIT_SECONDS)
        now = time.monotonic()
        if now - self._waiting_since.setdefault(key, now) > self._patience:
            del self._waiting_since[key]
            raise RefusedError(
                f"Exceeded timeout of {self._patience:.0f} s while waiting for {waiting}.", "TimeoutException"
            )
        return False

    def _failed(self, kafka: dict[str, Any] | None, reason: str, message: str) -> None:
        if kafka is None:
            return
        try:
            status = conditions.status(kafka, conditions.not_ready(reason, message))
            self._api.patch(kafka, {"status": status}, "status")
        except ApiError as error:
            _LOG.warning("Its status can't be written: %s", error)

    def _gone(self, key: Key) -> None:
        self._waiting_since.pop(key, None)
        self.metrics.forget(key[1], key[0])

    def _kafka(self, namespace: str, event: str, kafka: dict[str, Any]) -> None:
        if event == "SYNCED":
            self._synced.add(namespace)
        elif self._kafkas.news(event, kafka):
            self._work.add((namespace, kafka["metadata"]["name"]))

    def _pool(self, event: str, pool: dict[str, Any]) -> None:
        if event not in ("SYNCED", "LISTED") and self._pools.news(event, pool):
            self._pod(event, pool)

    def _pod(self, event: str, pod: dict[str, Any]) -> None:
        if event not in ("SYNCED", "LISTED"):
            self._work.add((pod["metadata"]["namespace"], pod["metadata"]["labels"][names.CLUSTER]))

    def _all(self) -> None:
        for namespace in self._namespaces:
            found = self._api.find("Kafka", namespace)
            self.metrics.seen("Kafka", namespace, len(found))
            for kafka in found:
                self._work.add((namespace, kafka["metadata"]["name"]))


def main() -> None:
    """Run in a pod, as the chart's environment says."""
    environment = os.environ
    operator = ClusterOperator(
        Api.in_pod(names.MANAGED_BY),
        environment["STANDIN_IMAGE"],
        environment["STRIMZI_NAMESPACE"].split(","),
        int(environment["STRIMZI_FULL_RECONCILIATION_INTERVAL_MS"]) / 1000,
        int(environment["STRIMZI_OPERATION_TIMEOUT_MS"]) / 1000,
        environment["STRIMZI_POD_DISRUPTION_BUDGET_GENERATION"] == "true",
    )
    serve(PORT, operator.metrics.registry, operator.ready)
    operator.run()
