"""The steps of an installation. What `--dry-run` prints and what is done are the same list."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from k8s.install.cluster import Cluster
from k8s.install.console import say
from k8s.install.credentials import make_secrets
from k8s.install.kafka_ca import copy_kafka_ca
from k8s.install.preflight import check_needs, check_secrets, secret_commands
from k8s.install.releases import NAMESPACES, Release, releases
from k8s.install.runner import HELM_SECONDS, run
from k8s.install.waiting import wait_command, wait_for

PROGRAM = ".venv/bin/python -m k8s.install"
WITH_CLIENTS = ("airflow",)
"""Releases before which Kafka's certificate must have been copied."""


@dataclass(frozen=True)
class Step:
    """One step: what it is, the commands that do it by hand, and what does it here."""

    title: str
    commands: tuple[tuple[str, ...], ...]
    action: Callable[[], None]


@dataclass(frozen=True)
class Sources:
    """Where charts and values come from, besides this repository."""

    charts: Path | None = None
    """A folder that has the charts of others, for a cluster that is far from their registries."""
    more_values: tuple[Path, ...] = ()
    """Folders with files `<release>.yaml`, which win over the environment's; those of later folders win over all."""


def install_steps(
    cluster: Cluster, environment: str, only: str | None = None, sources: Sources = Sources()
) -> list[Step]:
    """All steps from an empty cluster to a running platform; or those of one release alone.

    A release is waited for only before the first that needs what it brings, so that the operators start side by side.
    """
    steps: list[Step] = []
    if only is None:
        steps.append(_commands("Namespaces", [cluster.kubectl("apply", "--server-side", "--filename", NAMESPACES)]))
        steps.append(_secrets(cluster, environment))
    starting: list[Release] = []
    for release in releases():
        if only not in (None, release.name):
            continue
        needed = release.needed_releases
        steps += [_ready(cluster, each) for each in starting if each.name in needed]
        starting = [each for each in starting if each.name not in needed]
        if only is None and release.name in WITH_CLIENTS:
            steps.append(_kafka_ca(cluster))
        steps.append(_release(cluster, environment, release, sources))
        starting.append(release)
    return [*steps, *(_ready(cluster, each) for each in starting)]


def perform(steps: list[Step]) -> None:
    """Do all steps. Raises UserError at the first that fails."""
    for step in steps:
        say(f"== {step.title}")
        step.action()


def show(steps: list[Step]) -> None:
    """Print all steps as commands to type."""
    for step in steps:
        print(f"# {step.title}")
        for command in step.commands:
            print(command[0] if len(command) == 1 else shlex.join(command))
        print()


def _commands(title: str, commands: list[list[str]]) -> Step:
    def action() -> None:
        for command in commands:
            run(command, timeout=HELM_SECONDS)

    return Step(title, tuple(map(tuple, commands)), action)


def _secrets(cluster: Cluster, environment: str) -> Step:
    if environment == "production":
        # All of them before the first release, not each before its own: nothing is to be half made.
        return Step(
            "Secrets: from your own store (docs/gitops.md), before anything is installed",
            tuple(tuple(command) for command in secret_commands(cluster, environment)),
            lambda: check_secrets(cluster, environment),
        )
    command = f"{PROGRAM} secrets --environment {environment} --context {cluster.context}"

    def action() -> None:
        make_secrets(cluster, environment)

    return Step("Secrets that are absent; those that are there stay as they are", ((command,),), action)


def _kafka_ca(cluster: Cluster) -> Step:
    command = f"{PROGRAM} kafka-ca --context {cluster.context}"
    return Step("The certificate of Kafka's authority, for its clients", ((command,),), lambda: copy_kafka_ca(cluster))


def helm_command(cluster: Cluster, environment: str, release: Release, sources: Sources = Sources()) -> list[str]:
    """The command that installs or upgrades a release."""
    command = cluster.helm("upgrade", "--install", release.name, *release.chart_arguments(sources.charts))
    command += ["--namespace", release.namespace]
    for file in release.value_files(environment, sources.more_values):
        command += ["--values", file]
    return command


def _release(cluster: Cluster, environment: str, release: Release, sources: Sources) -> Step:
    commands = [helm_command(cluster, environment, release, sources)]
    if release.replace:
        place = ["--namespace", release.namespace, "--ignore-not-found"]
        commands.insert(0, cluster.kubectl("delete", "job", *release.replace, *place))

    def action() -> None:
        check_needs(cluster, release, environment)
        for command in commands:
            run(command, timeout=HELM_SECONDS)

    title = f"Release {release.name}: {release.chart} {release.version or '(of this repository)'}"
    return Step(title, tuple(map(tuple, commands)), action)


def _ready(cluster: Cluster, release: Release) -> Step:
    def action() -> None:
        for wait in release.waits:
            wait_for(cluster, release, wait)

    commands = [wait_command(cluster, release, wait) for wait in release.waits]
    return Step(f"Until release {release.name} is ready", tuple(map(tuple, commands)), action)
