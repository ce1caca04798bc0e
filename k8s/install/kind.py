"""A cluster on this machine, by kind: made if absent, with the images that were built here."""

import json
import tomllib

from k8s.install.cluster import Cluster
from k8s.install.console import confirmed, say
from k8s.install.errors import UserError
from k8s.install.preflight import check_cluster, check_docker, check_programs
from k8s.install.releases import REPOSITORY, releases
from k8s.install.runner import HELM_SECONDS, run
from k8s.install.steps import Step, install_steps, perform, show

NAME = "millrace"
CLUSTER = Cluster("kind-millrace")
CONFIGURATION = "k8s/kind/cluster.yaml"
NODE = "millrace-control-plane"
LOADED = REPOSITORY / ".millrace" / "kind-images.json"
"""Which images the node was given, by their ids: a node that is made anew has none."""
IMAGE_SECONDS = 3600
RESTARTED = {"airflow": "airflow", "ingest": "streams"}
"""An image to the namespace whose Deployments run it."""


def image_names() -> list[str]:
    """The images of this repository, with their tag."""
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    return [f"millrace/{name}:{version}" for name in ("airflow", "spark", "ingest")]


def up(dry_run: bool = False) -> None:
    """Bring everything up; go on where an earlier try ended.

    Raises:
        UserError: something is in the way.
    """
    steps = _steps()
    if dry_run:
        show(steps)
        return
    for line in check_programs(["docker", "kind", "kubectl", "helm", "make"]):
        say(line)
    say(check_docker(fresh=not exists()))
    perform(steps)
    say("Millrace is up. `make ui` opens its pages, `make kind-run` runs the main job, `make kind-down` removes it.")


def down(yes: bool = False, dry_run: bool = False) -> None:
    """Delete the cluster and everything in it, after asking.

    Raises:
        UserError: kind is missing or fails.
    """
    command = ["kind", "delete", "cluster", "--name", NAME]
    if dry_run:
        show([Step("Delete the cluster", (tuple(command),), lambda: None)])
        return
    check_programs(["docker", "kind"])
    if not exists():
        say(f"There is no kind cluster {NAME}: nothing to delete.")
        return
    say(f"This deletes the kind cluster {NAME} with everything in it:")
    for release in releases():
        say(f"  release {release.name}, its volumes and secrets")
    say(f"  the context {CLUSTER.context} of your kubeconfig. The images stay in Docker.")
    if not yes and not confirmed("Delete it?"):
        say("Nothing was deleted.")
        return
    run(command, timeout=HELM_SECONDS)
    LOADED.unlink(missing_ok=True)
    say(f"Deleted the kind cluster {NAME}.")


def exists() -> bool:
    """Whether the cluster is there. Raises CommandError."""
    return NAME in run(["kind", "get", "clusters"]).split()


def _steps() -> list[Step]:
    changed: set[str] = set()
    create = ["kind", "create", "cluster", "--config", CONFIGURATION]
    load = [("kind", "load", "docker-image", image, "--name", NAME) for image in image_names()]
    return [
        Step("The cluster, if it is not there", (tuple(create),), lambda: _create(create)),
        Step("Images", (("make", "images"),), _build),
        Step("Images onto the node, those that changed", tuple(load), lambda: changed.update(_load())),
        *install_steps(CLUSTER, "kind"),
        Step(
            "Pods of images that changed under the same name, anew",
            tuple(tuple(_restart(namespace)) for namespace in RESTARTED.values()),
            lambda: _restart_changed(changed),
        ),
    ]


def _create(command: list[str]) -> None:
    if exists():
        say(f"The kind cluster {NAME} is there.")
    else:
        say("Making the kind cluster; its image is pulled the first time (about 1 GB).")
        run(command, timeout=HELM_SECONDS)
    say(check_cluster(CLUSTER))


def _build() -> None:
    run(["make", "images"], timeout=IMAGE_SECONDS, show=True)


def _load() -> set[str]:
    """Load each image whose id the node does not have; return the names (airflow, ...) that it had with another id."""
    node = run(["docker", "inspect", "--format", "{{.Id}}", NODE]).strip()
    try:
        state = json.loads(LOADED.read_text())
    except (OSError, ValueError):
        state = {}
    if state.get("node") != node:
        state = {"node": node, "images": {}}
    changed = set()
    for image in image_names():
        identity = run(["docker", "image", "inspect", "--format", "{{.Id}}", image]).strip()
        if state["images"].get(image) == identity:
            say(f"{image} is on the node.")
            continue
        run(["kind", "load", "docker-image", image, "--name", NAME], timeout=IMAGE_SECONDS)
        say(f"Loaded {image} onto the node.")
        if image in state["images"]:
            changed.add(image.partition("/")[2].partition(":")[0])
        state["images"][image] = identity
        LOADED.parent.mkdir(parents=True, exist_ok=True)
        LOADED.write_text(json.dumps(state))
    return changed


def _restart(namespace: str) -> list[str]:
    return CLUSTER.kubectl("rollout", "restart", "deployment", "--namespace", namespace)


def _restart_changed(changed: set[str]) -> None:
    for image in sorted(changed & set(RESTARTED)):
        namespace = RESTARTED[image]
        if CLUSTER.items("deployments", namespace):
            run(_restart(namespace))
            say(f"Restarted the Deployments of {namespace}, whose image changed.")


def require_cluster() -> Cluster:
    """Return the cluster. Raises UserError if it is not there."""
    check_programs(["kind", "kubectl"])
    if not exists():
        raise UserError(f"There is no kind cluster {NAME}: bring it up with `make kind-up`.")
    return CLUSTER
