"""What an operator did, under Strimzi's names."""

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge, Summary, disable_created_metrics

_LABELS = ("kind", "namespace", "selector")


class Metrics:
    """Counts of one operator."""

    def __init__(self, selector: str = "") -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self._selector = selector
        self._periodical = self._counter("_periodical", "How often all resources were looked at")
        self._all = self._counter("", "How often a resource was looked at")
        self._successful = self._counter("_successful", "How often a resource was found or made as it says")
        self._failed = self._counter("_failed", "How often a resource could not be made as it says")
        self._duration = Summary(
            "strimzi_reconciliations_duration_seconds", "How long it took", _LABELS, registry=self.registry
        )
        self._resources = Gauge("strimzi_resources", "Resources that there are", _LABELS, registry=self.registry)
        labels = ("cluster", "kind", "namespace", "resource_namespace", "type")
        self._certificates = Gauge(
            "strimzi_certificate_expiration_timestamp_ms", "When an authority ends", labels, registry=self.registry
        )

    def seen(self, kind: str, namespace: str, number: int) -> None:
        """All resources of a kind are looked at."""
        self._periodical.labels(kind, namespace, self._selector).inc()
        self._resources.labels(kind, namespace, self._selector).set(number)

    def done(self, kind: str, namespace: str, seconds: float, failed: bool = False) -> None:
        """One resource has been looked at, which took so long."""
        labels = (kind, namespace, self._selector)
        self._all.labels(*labels).inc()
        # Both are there from the first time on: an increase from nothing is none to Prometheus.
        self._failed.labels(*labels).inc(failed)
        self._successful.labels(*labels).inc(not failed)
        self._duration.labels(*labels).observe(seconds)

    def certificate(self, cluster: str, namespace: str, name: str, ends: float) -> None:
        """An authority's certificate (`cluster-ca` or `client-ca`) ends at this time, in seconds of the epoch."""
        self._certificates.labels(cluster, "Kafka", namespace, namespace, name).set(ends * 1000)

    def forget(self, cluster: str, namespace: str) -> None:
        """A cluster is gone."""
        for name in ("cluster-ca", "client-ca"):
            with contextlib.suppress(KeyError):
                self._certificates.remove(cluster, "Kafka", namespace, namespace, name)

    def _counter(self, name: str, what: str) -> Counter:
        return Counter(f"strimzi_reconciliations{name}", what, _LABELS, registry=self.registry)
