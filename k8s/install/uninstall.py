"""Take everything down, in the reverse order of its installation."""

from k8s.install.cluster import Cluster
from k8s.install.console import confirmed, say
from k8s.install.preflight import check_cluster, check_programs
from k8s.install.releases import NAMESPACES, Release, releases
from k8s.install.runner import HELM_SECONDS, CommandError, run
from k8s.install.steps import Step, perform, show

TOPICS, USERS = "kafkatopics.kafka.strimzi.io", "kafkausers.kafka.strimzi.io"
APPLICATIONS = "sparkapplications.sparkoperator.k8s.io"
DELETE_SECONDS = 180
NO_FINALIZERS = '{"metadata":{"finalizers":null}}'


def uninstall(cluster: Cluster, *, yes: bool = False, everything: bool = False, dry_run: bool = False) -> None:
    """Uninstall all releases.

    Args:
        cluster: where.
        yes: do not ask.
        everything: the namespaces (with volumes and secrets) and the definitions too.
        dry_run: only print the commands.

    Raises:
        UserError: the cluster refuses; the same command goes on from there.
    """
    steps = uninstall_steps(cluster, everything)
    if dry_run:
        show(steps)
        return
    check_programs(["kubectl", "helm"])
    say(check_cluster(cluster))
    say(f"This uninstalls from {cluster.context}, in this order, and deletes what is in Kafka's topics:")
    for step in steps:
        say(f"  {step.title}")
    if not everything:
        say("It leaves the namespaces, their secrets and volumes, and the definitions; --everything deletes those too.")
    if not yes and not confirmed("Uninstall it?"):
        say("Nothing was deleted.")
        return
    perform(steps)
    say("Uninstalled.")


def uninstall_steps(cluster: Cluster, everything: bool) -> list[Step]:
    """All steps, in order."""
    steps: list[Step] = []
    for release in reversed(releases()):
        if release.name == "millrace":
            # While the operators still run: nobody else acts on the finalizers, or stops a driver after its batch.
            steps += [
                _delete(cluster, "Spark applications", APPLICATIONS, "streams"),
                _delete(cluster, "Generators", "jobs", "streams"),
                _delete(cluster, "Kafka's topics", TOPICS, "millrace", finalizers=True),
                _delete(cluster, "Kafka's users", USERS, "millrace"),
            ]
        steps.append(_helm(cluster, release))
        if release.name == "airflow":
            # They belong to no release, and nobody ends them once the scheduler has gone.
            steps.append(_delete(cluster, "Pods of Airflow's tasks", "pods", "airflow"))
        if release.name == "millrace":
            steps.append(_pods_gone(cluster, release))
    if everything:
        # A namespace that still has a pod looks again only after half of the pod's time to end, not when it has ended.
        for name in dict.fromkeys([*(release.namespace for release in releases()), "streams"]):
            place = ["--namespace", name, "--wait", "--timeout=600s"]
            steps.append(_simple(cluster, f"Pods that are left in {name}", "delete", "pods", "--all", *place))
        steps.append(_simple(cluster, "Namespaces", "delete", "--ignore-not-found", "--filename", NAMESPACES))
        definitions = [name for release in releases() for name in release.brings.definitions]
        title = "Definitions that Millrace uses (the charts brought further ones, which stay)"
        steps.append(_simple(cluster, title, "delete", "customresourcedefinition", "--ignore-not-found", *definitions))
    return steps


def _helm(cluster: Cluster, release: Release) -> Step:
    place = ["--namespace", release.namespace]
    command = cluster.helm("uninstall", release.name, *place, "--ignore-not-found", "--wait", "--timeout", "10m")

    def action() -> None:
        run(command, timeout=HELM_SECONDS)

    return Step(f"Release {release.name}", (tuple(command),), action)


def _simple(cluster: Cluster, title: str, *arguments: str) -> Step:
    command = cluster.kubectl(*arguments)

    def action() -> None:
        run(command, timeout=HELM_SECONDS)

    return Step(title, (tuple(command),), action)


def _delete(cluster: Cluster, title: str, kind: str, namespace: str, finalizers: bool = False) -> Step:
    place = ["--namespace", namespace]
    command = cluster.kubectl("delete", kind, "--all", *place, "--wait", f"--timeout={DELETE_SECONDS}s")

    def action() -> None:
        if "." in kind and not cluster.existing("customresourcedefinition", [kind]):
            say("  none: the definition is not there.")
            return
        try:
            run(command, timeout=DELETE_SECONDS + 60)
        except CommandError as error:
            if not finalizers:
                raise
            say(f"  {error}")
            _release_finalizers(cluster, kind, namespace)

    return Step(title, (tuple(command),), action)


def _release_finalizers(cluster: Cluster, kind: str, namespace: str) -> None:
    """Let go of topics that no operator sees to any more: else their namespace could never be deleted."""
    for item in cluster.items(kind, namespace):
        name = item["metadata"]["name"]
        say(f"  No operator let go of {name}: removing its finalizer.")
        run(cluster.kubectl("patch", kind, name, "--namespace", namespace, "--type=merge", "--patch", NO_FINALIZERS))


def _pods_gone(cluster: Cluster, release: Release) -> Step:
    """Strimzi must live until the pods of Kafka have ended in order."""
    place = ["--namespace", release.namespace]
    command = cluster.kubectl("wait", "pod", "--all", "--for=delete", *place, "--timeout=600s")

    def action() -> None:
        if cluster.items("pods", release.namespace):
            run(command, timeout=HELM_SECONDS)

    return Step("Kafka's pods have ended", (tuple(command),), action)
