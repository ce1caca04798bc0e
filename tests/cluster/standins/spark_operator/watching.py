"""Follows all objects of one kind in one namespace, and says of each change what was and what is."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from tests.cluster.standins.spark_operator.cluster import Cluster, GoneError, Kind, Stream

PAUSE_SECONDS = 1.0
"""Before the API server is asked again, if it did not answer."""
Object = dict[str, Any]
log = logging.getLogger(__name__)


class Watch:
    """Calls `changed(was, is)` for every change, from one thread; None stands for: not there."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        namespace: str,
        changed: Callable[[Object | None, Object | None], None],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._namespace = namespace
        self._changed = changed
        self._labels = labels or {}
        self._stopped = threading.Event()
        self._stream: Stream | None = None
        self.known: dict[str, Object] = {}
        """The objects by name, as they were last heard of."""
        self.listed = threading.Event()
        """Set once all that was there at the start has been told."""

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self.run, name=f"{self._kind.plural} of {self._namespace}", daemon=True).start()

    def stop(self) -> None:
        """End."""
        self._stopped.set()
        if self._stream:
            self._stream.stop()

    def run(self) -> None:
        """Follow the objects until it is stopped."""
        version = ""
        while not self._stopped.is_set():
            try:
                version = version or self._list()
                version = self._follow(version)
            except GoneError as error:
                log.info("%s of %s are listed anew: %s", self._kind.plural, self._namespace, error)
                version = ""
                self._stopped.wait(PAUSE_SECONDS)
            except (ApiException, HTTPError, OSError, ValueError) as error:
                if self._stopped.is_set():
                    return
                log.warning("%s of %s can't be watched: %s", self._kind.plural, self._namespace, error)
                version = ""
                self._stopped.wait(PAUSE_SECONDS)

    def _list(self) -> str:
        found = self._cluster.list(self._kind, self._namespace, self._labels)
        objects = {each["metadata"]["name"]: each for each in found["items"]}
        for name in [*self.known]:
            if name not in objects:
                self._tell(name, None)
        for name, each in objects.items():
            self._tell(name, each)
        self.listed.set()
        return found["metadata"]["resourceVersion"]

    def _follow(self, version: str) -> str:
        self._stream = self._cluster.watch(self._kind, self._namespace, self._labels, version)
        for kind, each in self._stream:
            if self._stopped.is_set():
                break
            version = each["metadata"]["resourceVersion"]
            if kind != "BOOKMARK":
                # The last word of an object that is gone is what it was at the end.
                if kind == "DELETED":
                    self.known[each["metadata"]["name"]] = each
                self._tell(each["metadata"]["name"], None if kind == "DELETED" else each)
        return version

    def _tell(self, name: str, new: Object | None) -> None:
        old = self.known.get(name)
        if old and new and old["metadata"]["uid"] != new["metadata"]["uid"]:
            self._tell(name, None)  # its end was missed
            old = None
        if new is None:
            self.known.pop(name, None)
        else:
            self.known[name] = new
        try:
            self._changed(old, new)
        except (ApiException, HTTPError, OSError) as error:
            log.warning("%s %s: a change was not taken up: %s", self._kind.plural, name, error)
