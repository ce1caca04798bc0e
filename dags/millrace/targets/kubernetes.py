"""The target `kubernetes`: applications by the Spark operator, jobs as Jobs, all in one namespace.

Nothing is kept here: what runs, and for whom, stands in the cluster, so any process can go on where another one ended.
docs/decisions/0006 and 0007 say why an application is created and not applied, and how it is stopped.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from millrace import storage
from millrace.config import Settings
from millrace.errors import MillraceError, OwnedByAnotherError, TemporaryError
from millrace.targets import job_resource, pods, spark_resource
from millrace.targets.base import ApplicationState, ApplicationStatus, JobSpec, JobState, JobStatus
from millrace.targets.cluster import JOB, POD, SPARK_APPLICATION, Cluster
from millrace.targets.endpoint import driver_progress
from millrace.targets.manifest import load_document
from millrace.targets.names import require_name
from millrace.targets.refusals import ConflictError, Kind

LOOK_INTERVAL = 0.5
"""Seconds between two looks at something that ends."""
END_TIMEOUT = 120.0
"""Seconds for a program to end when it must: above its pod's grace period of 60 s, and the operator's own delays."""
SUSPENSION_TIMEOUT = END_TIMEOUT
"""Seconds for the Spark operator to end an application that is suspended; one that it doesn't end then is deleted."""
UNFINISHED = "its last batch will be done again"


@dataclass(frozen=True)
class Seen:
    """One look at an application or job and its pods."""

    found: dict[str, Any] | None
    pods: list[dict[str, Any]] = field(default_factory=list)

    @property
    def uid(self) -> str | None:
        """What tells the object from a later one of the same name."""
        return self.found["metadata"]["uid"] if self.found else None

    @property
    def going(self) -> bool:
        """True if the object is being deleted, or only a living pod is left of it."""
        if self.found is None:
            return any(pods.is_living(pod) for pod in self.pods)
        return bool(self.found["metadata"].get("deletionTimestamp"))


class KubernetesTarget:
    """Runs everything in the namespace MILLRACE_NAMESPACE of a cluster."""

    def __init__(self, settings: Settings, cluster: Cluster | None = None) -> None:
        self._settings = settings
        self._namespace = settings.namespace
        self._cluster = cluster or Cluster(settings.namespace)

    # Applications

    def start_application(
        self, manifest: Path, owner: str, arguments: Sequence[str] = (), labels: Mapping[str, str] | None = None
    ) -> ApplicationStatus:
        """Create the SparkApplication of a manifest, once whatever is left of an earlier one is gone; see `Target`."""
        document = load_document(manifest)
        name = require_name(str((document.get("metadata") or {}).get("name")), str(manifest))
        if not isinstance(document.get("spec"), dict):
            raise MillraceError(f"{manifest} has no `spec`: correct the manifest.")
        body = spark_resource.build(
            document,
            namespace=self._namespace,
            owner=owner,
            image=self._settings.spark_image,
            arguments=arguments,
            labels=labels,
        )

        def judge(seen: Seen) -> ApplicationStatus:
            return self._application(name, seen)

        def stop_first(status: ApplicationStatus | JobStatus) -> bool:
            """True if this run's application has been asked to stop, and now is stopped."""
            asked = status.state is ApplicationState.SUSPENDING or storage.exists("control", name, "stop")
            if asked:
                self.stop_application(name, END_TIMEOUT, owner)
            return asked

        def create() -> None:
            # A request that an earlier driver was stopped by; nobody asks one that doesn't run yet.
            storage.delete_tree("control", name, "stop")
            self._cluster.create(SPARK_APPLICATION, body)

        self._start(SPARK_APPLICATION, name, owner, judge, create, stop_first)
        return self.application_status(name)

    def application_status(self, name: str) -> ApplicationStatus:
        """Return what the SparkApplication and its driver's pod say; see `Target`."""
        return self._application(name, self._look(SPARK_APPLICATION, name))

    def progress(self, name: str, last: int | None = None) -> dict[str, Any]:
        """Return the driver's `/progress`; see `Target`. Raises MillraceError while no driver answers."""
        return driver_progress(name, self.application_status(name).metrics_url, last)

    def stop_application(self, name: str, timeout: float, owner: str | None = None) -> ApplicationStatus:
        """Stop an application by its control file, then by suspending it, then by deleting it; see `Target`."""
        seen = self._look(SPARK_APPLICATION, name)
        status = self._application(name, seen)
        if status.state.ended:
            return status
        _refuse_another(status, owner)
        first = seen.uid
        if not seen.going:
            storage.write_text("", "control", name, "stop")
        ended = self._wait_for_end(name, first, timeout, between_tries=True)
        if ended:
            return ended if ended.message else replace(ended, message="stopped as asked")
        why = f"did not stop within {timeout:g} s, so it was ended by force; {UNFINISHED}"
        self._suspend(name, first, why, by_force=True)
        ended = self._wait_for_end(name, first, SUSPENSION_TIMEOUT)
        if ended:
            return ended
        self._delete(SPARK_APPLICATION, name, first)
        ended = self._wait_for_end(name, first, END_TIMEOUT)
        if ended:
            why = f"did not stop within {timeout:g} s, nor did the Spark operator end it, so it was deleted"
            return replace(ended, state=ApplicationState.FAILED, owner=status.owner, message=f"{why}; {UNFINISHED}")
        raise MillraceError(
            f"{name} does not end, though it was deleted: see its pod (`kubectl describe pod --namespace "
            f"{self._namespace} --selector sparkoperator.k8s.io/app-name={name}`) and that pod's node."
        )

    def driver_log(self, name: str, offset: int = 0) -> tuple[str, int]:
        """Return what the newest driver wrote since `offset`, its last MiB at most; see `Target`.

        Logs of earlier drivers are gone with their pods.
        """
        return self._log(SPARK_APPLICATION, name, offset)

    # Jobs

    def start_job(self, job: JobSpec, owner: str, labels: Mapping[str, str] | None = None) -> JobStatus:
        """Create a Job, once whatever is left of an earlier one is gone; see `Target`."""
        require_name(job.name, "The job")
        body = job_resource.build(
            job, namespace=self._namespace, owner=owner, image=self._settings.ingest_image, labels=labels
        )

        def judge(seen: Seen) -> JobStatus:
            return self._job(job.name, seen)

        self._start(JOB, job.name, owner, judge, lambda: self._cluster.create(JOB, body))
        return self.job_status(job.name)

    def job_status(self, name: str) -> JobStatus:
        """Return what the Job and its pod say; see `Target`."""
        return self._job(name, self._look(JOB, name))

    def stop_job(self, name: str, timeout: float, owner: str | None = None) -> JobStatus:
        """Delete a Job that runs: its pod gets SIGTERM, and SIGKILL after its grace period; see `Target`."""
        seen = self._look(JOB, name)
        status = self._job(name, seen)
        if status.state.ended and not seen.going:
            return status
        _refuse_another(status, owner)
        self._delete(JOB, name, seen.uid)
        deadline = time.monotonic() + timeout + END_TIMEOUT
        while True:
            seen_now = self._look(JOB, name)
            if seen_now.uid != seen.uid and not seen_now.going:
                return replace(status, state=JobState.STOPPED, message="stopped as asked, and its Job deleted")
            if time.monotonic() >= deadline:
                raise MillraceError(
                    f"{name} does not end, though it was deleted: see `kubectl describe pod --namespace "
                    f"{self._namespace} --selector batch.kubernetes.io/job-name={name}` and that pod's node."
                )
            time.sleep(LOOK_INTERVAL)

    def job_log(self, name: str, offset: int = 0) -> tuple[str, int]:
        """Return what the job wrote since `offset`, its last MiB at most; see `Target`."""
        return self._log(JOB, name, offset)

    # What both have in common

    def _look(self, kind: Kind, name: str) -> Seen:
        labels = spark_resource.driver_labels(name) if kind is SPARK_APPLICATION else job_resource.pod_labels(name)
        # The object first: if it is gone, its pods are looked for after that.
        found = self._cluster.get(kind, name)
        return Seen(found, self._cluster.list(POD, labels))

    def _application(self, name: str, seen: Seen) -> ApplicationStatus:
        return spark_resource.status_of(name, self._namespace, seen.found, seen.pods)

    def _job(self, name: str, seen: Seen) -> JobStatus:
        return job_resource.status_of(name, self._namespace, seen.found, seen.pods)

    def _start(
        self,
        kind: Kind,
        name: str,
        owner: str,
        judge: Callable[[Seen], ApplicationStatus | JobStatus],
        create: Callable[[], object],
        stop_first: Callable[[ApplicationStatus | JobStatus], bool] = lambda _: False,
    ) -> None:
        """Create an object, unless this owner's runs already; never beside one that is still there, or a pod of it.

        All is decided by one look, and what was seen is deleted only if it is still the same. `create` decides between
        two who try at once: the API makes only one object of a name.
        """
        deadline = time.monotonic() + END_TIMEOUT
        while True:
            seen = self._look(kind, name)
            status = judge(seen)
            try:
                if seen.going:
                    pass  # It ends, whoever's it was.
                elif seen.found is None:
                    create()
                    return
                elif status.state.ended:
                    self._cluster.delete(kind, seen.found)
                elif status.owner != owner:
                    raise OwnedByAnotherError(
                        f"{name} is already run by {status.owner or 'somebody'}: wait for that run to end, or stop it "
                        "first."
                    )
                elif not stop_first(status):
                    return
            except ConflictError:
                pass  # Somebody was faster: look again at what he did.
            if time.monotonic() >= deadline:
                raise MillraceError(
                    f"{name} can't be started while something of an earlier one is there ({self._remains(seen)}): "
                    "see why it does not end, or delete it."
                )
            time.sleep(LOOK_INTERVAL)

    def _remains(self, seen: Seen) -> str:
        living = [pod["metadata"]["name"] for pod in seen.pods if pods.is_living(pod)]
        if living:
            return f"pod {living[0]} in namespace {self._namespace}"
        return f"it is being deleted in namespace {self._namespace}"

    def _wait_for_end(
        self, name: str, uid: str | None, timeout: float, *, between_tries: bool = False
    ) -> ApplicationStatus | None:
        """Wait until this very application has ended; return its status, or None after `timeout` seconds.

        With `between_tries`, one that just has no driver is suspended, so that it gets no other.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                seen = self._look(SPARK_APPLICATION, name)
                status = self._application(name, seen)
                if seen.found and seen.uid != uid:
                    return ApplicationStatus(name, ApplicationState.NEW, message="ended; another one has begun since")
                if status.state.ended:
                    return status
                waits = status.state in (ApplicationState.PENDING_RERUN, ApplicationState.SUBMISSION_FAILED)
                if between_tries and waits and not any(pods.is_living(pod) for pod in seen.pods):
                    self._suspend(name, uid, "stopped between two tries, as asked", by_force=False)
            except TemporaryError:
                if time.monotonic() >= deadline:
                    raise
            if time.monotonic() >= deadline:
                return None
            time.sleep(LOOK_INTERVAL)

    def _suspend(self, name: str, uid: str | None, why: str, *, by_force: bool) -> None:
        found = self._cluster.get(SPARK_APPLICATION, name)
        if found is None or found["metadata"]["uid"] != uid or (found["spec"].get("suspend") and not by_force):
            return
        self._cluster.merge(SPARK_APPLICATION, name, spark_resource.suspension(found, why, by_force))

    def _delete(self, kind: Kind, name: str, uid: str | None) -> None:
        """Delete an object, however often its status changes meanwhile, but no later one of the same name."""
        deadline = time.monotonic() + END_TIMEOUT
        while True:
            found = self._cluster.get(kind, name)
            if found is None or found["metadata"]["uid"] != uid:
                return
            try:
                return self._cluster.delete(kind, found)
            except ConflictError:
                if time.monotonic() >= deadline:
                    raise

    def _log(self, kind: Kind, name: str, offset: int) -> tuple[str, int]:
        seen = self._look(kind, name)
        pod = pods.newest(seen.pods)
        if pod is None:
            raise MillraceError(
                f"There is no log of {name}: it has no pod in namespace {self._namespace} (now); where the cluster "
                "keeps logs of pods that are gone, look there."
            )
        return self._cluster.log(pod["metadata"]["name"], offset)


def _refuse_another(status: ApplicationStatus | JobStatus, owner: str | None) -> None:
    if owner is not None and status.owner != owner:
        raise OwnedByAnotherError(
            f"{status.name} belongs to {status.owner or 'somebody'}, so it was left running: stop that run instead."
        )
