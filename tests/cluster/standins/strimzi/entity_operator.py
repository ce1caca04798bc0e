"""Topic operator and user operator: the loop over the resources of one kind that belong to one cluster."""

import logging
import os
import time
from typing import Any, Protocol

from tests.cluster.standins.strimzi import conditions
from tests.cluster.standins.strimzi.api import Api, ApiError
from tests.cluster.standins.strimzi.clusters import RefusedError
from tests.cluster.standins.strimzi.health import serve
from tests.cluster.standins.strimzi.kafka import Kafka, UnansweredError
from tests.cluster.standins.strimzi.metrics import Metrics
from tests.cluster.standins.strimzi.names import TOPIC_OPERATOR, USER_OPERATOR
from tests.cluster.standins.strimzi.topics import Topics
from tests.cluster.standins.strimzi.users import Users
from tests.cluster.standins.strimzi.work import Changes, Work, every, follow

PERIOD_SECONDS = 120.0
RETRY_SECONDS = 10.0
# Not a resource's name: have all that no resource speaks of ended.
SWEEP = "*"
_LOG = logging.getLogger(__name__)


class Kind(Protocol):
    """What is done about the resources of one kind."""

    kind: str

    def reconcile(self, resource: dict[str, Any]) -> dict[str, Any] | None:
        """Do as a resource says; return the fields of its status, if it is to get one."""

    def gone(self, name: str) -> None:
        """End what was made for a resource that is no more."""

    def sweep(self, names: set[str]) -> None:
        """End what no resource speaks of any more."""


class EntityOperator:
    """The loop over all resources of a kind with certain labels in a namespace."""

    def __init__(self, api: Api, kind: Kind, namespace: str, labels: str, period: float = PERIOD_SECONDS) -> None:
        self.metrics = Metrics(labels)
        self._api, self._of, self._namespace, self._labels, self._period = api, kind, namespace, labels, period
        self._work, self._changes = Work(), Changes()
        self._synced = False

    def ready(self) -> bool:
        """Whether all resources are known."""
        return self._synced

    def run(self) -> None:
        """Work for good."""
        follow(self._api, self._of.kind, self._namespace, self._labels, self._seen)
        every(self._period, self._all)
        while True:
            self.look_at(self._work.take()[1])

    def look_at(self, name: str) -> None:
        """Do as one resource says, or say in its status why not."""
        if name == SWEEP:
            self._sweep()
            return
        begun = time.monotonic()
        resource: dict[str, Any] | None = None
        try:
            resource = self._api.get(self._of.kind, self._namespace, name)
            if resource is None:
                self._of.gone(name)
            else:
                self._tell(resource)
        except (ApiError, RefusedError, UnansweredError) as error:
            _LOG.warning("%s %s: %s", self._of.kind, name, error)
            self.metrics.done(self._of.kind, self._namespace, time.monotonic() - begun, failed=True)
            # That the brokers don't answer says nothing of the resource.
            if not isinstance(error, UnansweredError):
                self._failed(resource, error)
            self._work.add((self._namespace, name), RETRY_SECONDS)
        else:
            _LOG.info("%s %s is as it says.", self._of.kind, name)
            self.metrics.done(self._of.kind, self._namespace, time.monotonic() - begun)

    def _tell(self, resource: dict[str, Any]) -> None:
        fields = self._of.reconcile(resource)
        if fields is None:
            return
        status = conditions.status(resource, conditions.ready(), **fields)
        if resource.get("status") != status:
            self._api.patch(resource, {"status": status}, "status")

    def _failed(self, resource: dict[str, Any] | None, error: ApiError | RefusedError) -> None:
        if resource is None:
            return
        reason = error.reason if isinstance(error, RefusedError) else "KubernetesClientException"
        try:
            status = conditions.status(resource, conditions.not_ready(reason, str(error)))
            self._api.patch(resource, {"status": status}, "status")
        except ApiError as further:
            _LOG.warning("Its status can't be written: %s", further)

    def _seen(self, event: str, resource: dict[str, Any]) -> None:
        if event == "SYNCED":
            self._synced = True
        elif self._changes.news(event, resource):
            self._work.add((self._namespace, resource["metadata"]["name"]))

    def _all(self) -> None:
        found = self._api.find(self._of.kind, self._namespace, self._labels)
        self.metrics.seen(self._of.kind, self._namespace, len(found))
        for resource in found:
            self._work.add((self._namespace, resource["metadata"]["name"]))
        self._work.add((self._namespace, SWEEP))

    def _sweep(self) -> None:
        try:
            found = self._api.find(self._of.kind, self._namespace, self._labels)
            self._of.sweep({each["metadata"]["name"] for each in found})
        except (ApiError, RefusedError, UnansweredError) as error:
            _LOG.warning("What no %s speaks of can't be ended: %s", self._of.kind, error)


def topic_operator() -> None:
    """Run in a pod, as the cluster operator's environment says."""
    api = Api.in_pod("strimzi-topic-operator")
    _run(api, Topics(api, Kafka(os.environ)), TOPIC_OPERATOR)


def user_operator() -> None:
    """Run in a pod, as the cluster operator's environment says."""
    api = Api.in_pod("strimzi-user-operator")
    rules = os.environ["STRIMZI_ACLS_ADMIN_API_SUPPORTED"] == "true"
    _run(api, Users(api, Kafka(os.environ), rules), USER_OPERATOR)


def _run(api: Api, kind: Kind, port: int) -> None:
    operator = EntityOperator(api, kind, os.environ["STRIMZI_NAMESPACE"], os.environ["STRIMZI_RESOURCE_LABELS"])
    serve(port, operator.metrics.registry, operator.ready)
    operator.run()
