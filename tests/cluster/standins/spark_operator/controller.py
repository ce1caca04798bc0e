"""Brings every SparkApplication of the job namespaces to its next state, whenever something of it has changed.

Nothing is known but what the API server says: an operator that starts anew goes on where the last one was.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from tests.cluster.standins.spark_operator import web_ui
from tests.cluster.standins.spark_operator.cluster import (
    APPLICATION,
    EVENT,
    POD,
    SERVICE,
    Cluster,
    ConflictError,
    GoneError,
)
from tests.cluster.standins.spark_operator.defaults import with_defaults
from tests.cluster.standins.spark_operator.metrics import Metrics
from tests.cluster.standins.spark_operator.names import (
    API_VERSION,
    APP_NAME,
    EXECUTOR,
    KIND,
    LAUNCHED,
    ROLE,
    SUBMISSION_ID,
    State,
    driver_pod,
    resource_labels,
)
from tests.cluster.standins.spark_operator.pods import phase
from tests.cluster.standins.spark_operator.restarts import now, state_of, written
from tests.cluster.standins.spark_operator.states import (
    Event,
    Seen,
    Step,
    next_step,
    restarts_with_new_spec,
    submission_begins,
    submission_ends,
)
from tests.cluster.standins.spark_operator.submission import SubmissionError
from tests.cluster.standins.spark_operator.watching import Watch
from tests.cluster.standins.spark_operator.work_queue import Key, WorkQueue

COMPONENT = "spark-application-controller"
TRIES_ON_CONFLICT = 5
LONGEST_MESSAGE = 1024
"""Of an event; the API refuses longer ones."""
Object = dict[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What the chart says."""

    namespaces: Sequence[str]
    workers: int = 10
    ui_service: bool = True
    driver_patience: float = 10.0
    """Seconds after a submission for which the driver's pod may be missing."""


class NotYetError(Exception):
    """Nothing can be done now; look again soon."""


class Controller:
    """The operator. `submit` takes an application whose status has its submission's id, and raises SubmissionError."""

    def __init__(
        self, cluster: Cluster, settings: Settings, submit: Callable[[Object], None], metrics: Metrics | None = None
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._submit = submit
        self.metrics = metrics or Metrics()
        self._queue = WorkQueue()
        self._workers: list[threading.Thread] = []
        self._applications = {
            namespace: Watch(cluster, APPLICATION, namespace, self._application_changed)
            for namespace in settings.namespaces
        }
        self._pods = [
            Watch(cluster, POD, namespace, self._pod_changed, {LAUNCHED: "true"}) for namespace in settings.namespaces
        ]

    # Life

    def start(self) -> None:
        """Begin to watch and to work."""
        for watch in self._watches():
            watch.start()
        for number in range(self._settings.workers):
            worker = threading.Thread(target=self._work, name=f"worker {number}", daemon=True)
            worker.start()
            self._workers.append(worker)

    def ready(self) -> bool:
        """Whether everything that was there at the start has been seen."""
        return all(watch.listed.is_set() for watch in self._watches())

    def stop(self, patience: float) -> bool:
        """Take up nothing more; return whether what is under way ended in so many seconds."""
        for watch in self._watches():
            watch.stop()
        self._queue.close()
        deadline = time.monotonic() + patience
        for worker in self._workers:
            worker.join(max(deadline - time.monotonic(), 0))
        return not any(worker.is_alive() for worker in self._workers)

    def _watches(self) -> list[Watch]:
        return [*self._applications.values(), *self._pods]

    # What happens

    def _application_changed(self, old: Object | None, new: Object | None) -> None:
        current = new or old
        assert current is not None
        if old and new and restarts_with_new_spec(old, new) and not self._invalidate(new):
            return
        self.metrics.application_changed(old, new)
        self._queue.add(_key(current))

    def _invalidate(self, app: Object) -> bool:
        """Say that what runs is not any more what the object says."""
        app = with_state(app, State.INVALIDATING)
        try:
            self._cluster.replace(APPLICATION, app["metadata"]["namespace"], app, "status")
        except (ConflictError, GoneError, ApiException) as error:
            log.warning("%s has a new spec, but its status can't be written: %s", app["metadata"]["name"], error)
            message = f"Failed to update spec for SparkApplication {app['metadata']['name']}: {error}"
            self._record(app, [Event("SparkApplicationSpecUpdateFailed", message, warning=True)])
            return False
        return True

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if old and new and phase(old) == phase(new):
            return
        pod = new or old
        assert pod is not None
        labels = pod["metadata"].get("labels") or {}
        if labels.get(ROLE) == EXECUTOR:
            self.metrics.pod_changed(old, new)
        namespace, name = pod["metadata"]["namespace"], labels.get(APP_NAME)
        app = self._applications[namespace].known.get(name or "")
        if app is None or state_of(app) is State.INVALIDATING:
            return
        if (app.get("status") or {}).get("submissionID") == labels.get(SUBMISSION_ID):
            self._queue.add(_key(app))

    # Work

    def _work(self) -> None:
        while key := self._queue.get():
            try:
                wait = self.reconcile(key)
            except NotYetError as reason:
                delay = self._queue.add_failed(key)
                log.info("%s: %s; again in %.2f s", key[1], reason, delay)
            except (ApiException, HTTPError, OSError, ConflictError) as error:
                delay = self._queue.add_failed(key)
                log.warning("%s: %s; again in %.2f s", key[1], error, delay)
            except Exception:
                delay = self._queue.add_failed(key)
                log.exception("%s: this should not happen; again in %.2f s", key[1], delay)
            else:
                self._queue.succeeded(key)
                if wait is not None:
                    self._queue.add_later(key, wait)
            finally:
                self._queue.done(key)

    def reconcile(self, key: Key) -> float | None:
        """Take an application one step further; return after how many seconds it wants to be looked at again.

        As upstream, all of a step is done anew if somebody else has changed the object meanwhile: a submission too, of
        which the second then finds the first one's driver.
        """
        for _ in range(TRIES_ON_CONFLICT):
            try:
                return self._try(key)
            except ConflictError:
                log.info("%s was changed by somebody else at the same time", key[1])
            except GoneError:
                return None
        raise NotYetError("it changes all the time")

    def _try(self, key: Key) -> float | None:
        found = self._cluster.get(APPLICATION, *key)
        if found is None:
            return None
        if found["metadata"].get("deletionTimestamp"):
            self._delete_what_runs(found)
            return None
        app = with_defaults(found)
        step = next_step(app, self._look(app), now(), self._settings.driver_patience)
        if step.remove:
            log.info("%s has outlived its time", key[1])
            self._cluster.delete(APPLICATION, *key)
            return None
        if step.delete:
            self._delete_what_runs(app)
        if step.not_yet:
            raise NotYetError(step.not_yet)
        if step.submit:
            ended = self._submit_now(app)
            step = Step(ended.status, look_again=step.look_again, events=[*step.events, *ended.events])
        if step.serve_ui and self._settings.ui_service:
            step.status["driverInfo"].update(web_ui.driver_info(self._serve_ui(app)))
        if step.status != found.get("status"):
            old, new = state_of(found), step.status["applicationState"]["state"]
            log.info("%s: %s -> %s", key[1], old.value or "new", new or "new")
            self._cluster.replace(APPLICATION, key[0], {**found, "status": step.status}, "status")
        self._record(found, step.events)
        return step.look_again

    def _look(self, app: Object) -> Seen:
        namespace, info = app["metadata"]["namespace"], (app.get("status") or {}).get("driverInfo") or {}
        service = info.get("webUIServiceName")
        executors = self._cluster.list(POD, namespace, {**resource_labels(app), ROLE: EXECUTOR})
        return Seen(
            driver=self._cluster.get(POD, namespace, info.get("podName") or driver_pod(app)),
            executors=executors["items"],
            service=bool(service and self._cluster.get(SERVICE, namespace, service)),
        )

    def _submit_now(self, app: Object) -> Step:
        status = submission_begins(app, str(uuid.uuid4()), now())
        error = ""
        log.info("%s is submitted, for the %d. time", app["metadata"]["name"], status["submissionAttempts"])
        try:
            self._submit({**app, "status": status})
        except SubmissionError as problem:
            error = str(problem)
        return submission_ends(app, status, error)

    def _serve_ui(self, app: Object) -> Object:
        namespace, wanted = app["metadata"]["namespace"], web_ui.service(app)
        existing = self._cluster.get(SERVICE, namespace, wanted["metadata"]["name"])
        if existing is None:
            return self._cluster.create(SERVICE, namespace, wanted)
        return self._cluster.replace(SERVICE, namespace, web_ui.updated(existing, wanted))

    def _delete_what_runs(self, app: Object) -> None:
        namespace, info = app["metadata"]["namespace"], (app.get("status") or {}).get("driverInfo") or {}
        self._cluster.delete(POD, namespace, info.get("podName") or driver_pod(app))
        if info.get("webUIServiceName"):
            self._cluster.delete(SERVICE, namespace, info["webUIServiceName"], grace=0)

    def _record(self, app: Mapping[str, Any], events: Sequence[Event]) -> None:
        for event in events:
            try:
                self._cluster.create(EVENT, app["metadata"]["namespace"], _event(app, event))
            except (ApiException, ConflictError, GoneError, HTTPError) as error:
                log.warning("the event %s was not recorded: %s", event.reason, error)


def with_state(app: Mapping[str, Any], state: State) -> Object:
    """Return an application with another state, and all else of its status."""
    status = {"driverInfo": {}, **(app.get("status") or {})}
    status["applicationState"] = {**(status.get("applicationState") or {}), "state": state.value}
    return {**app, "status": status}


def _key(app: Mapping[str, Any]) -> Key:
    return app["metadata"]["namespace"], app["metadata"]["name"]


def _event(app: Mapping[str, Any], event: Event) -> Object:
    metadata, moment = app["metadata"], written(now())
    identity = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion")}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "involvedObject": {"apiVersion": API_VERSION, "kind": KIND, **identity},
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "message": event.message[:LONGEST_MESSAGE],
        "source": {"component": COMPONENT},
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }
