"""What the chart renders is applied to a real API server: twice, without a change; and nobody may too much."""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded.paths import REPOSITORY
from tests.charts.render import RELEASE_NAMESPACE, by_name, render_text
from tests.charts.test_everything import SETS
from tests.control_plane.conftest import LAUNCHER_RULES, definitions
from tests.documents import documents
from tests.kubernetes.plane import ControlPlane, control_plane, namespace

APPLY = ("apply", "--server-side", "--field-manager=millrace", "--filename=-")


@dataclass
class Applied:
    """A control plane of its own, with what one set of values renders."""

    plane: ControlPlane
    objects: list[dict[str, Any]]
    release: Path
    """The administrator's kubeconfig; what names no namespace goes where the release is."""

    def apply(self, *options: str, check: bool = True) -> str:
        """Apply all objects; return what kubectl complains about."""
        return self.plane.kubectl(*APPLY, *options, given=self.objects, kubeconfig=self.release, check=check).stderr

    def versions(self) -> dict[tuple[str, str, str], str]:
        """The version of each object, by kind, namespace and name."""
        found = self.plane.kubectl("get", "--output=json", "--filename=-", given=self.objects, kubeconfig=self.release)
        return {
            (each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each["metadata"][
                "resourceVersion"
            ]
            for each in json.loads(found.stdout)["items"]
        }


@pytest.fixture(scope="module", params=["kind", "production", "everything"])
def applied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """What the chart renders, applied once; every namespace enforces Pod Security `restricted`.

    No controller runs, so nothing but `apply` changes anything.
    """
    objects = documents(render_text(SETS[request.param]))
    names = {each["metadata"].get("namespace", RELEASE_NAMESPACE) for each in objects}
    with control_plane(tmp_path_factory.mktemp("apply")) as plane:
        plane.define(definitions())
        accounts = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
            for name in names
        ]
        plane.kubectl("create", "-f", "-", given=[*map(namespace, sorted(names)), *accounts])
        release = plane.kubeconfig("installer", groups=("system:masters",), namespace=RELEASE_NAMESPACE)
        applied = Applied(plane, objects, release)
        applied.apply()
        yield applied


def test_everything_is_there_and_a_second_time_changes_nothing(applied: Applied) -> None:
    before = applied.versions()
    assert len(before) == len(applied.objects)
    assert applied.apply() == ""
    assert applied.versions() == before


def test_another_manager_is_not_overruled(applied: Applied) -> None:
    """The second apply does compare: whoever changes a field of ours is found out."""
    config = next(each for each in applied.objects if each["kind"] == "ConfigMap")
    where = f"--namespace={config['metadata'].get('namespace', RELEASE_NAMESPACE)}"
    name, key = config["metadata"]["name"], next(iter(config["data"]))
    patch = yaml.safe_dump({"data": {key: "changed"}})
    applied.plane.kubectl("patch", "configmap", name, where, f"--patch={patch}", "--field-manager=somebody")
    said = applied.apply(check=False)
    assert 'conflict with "somebody"' in said
    applied.apply("--force-conflicts")


def pods_of(objects: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A pod of every pod template, wherever an object holds one."""

    def templates(node: Any) -> Iterator[dict[str, Any]]:
        if isinstance(node, dict):
            template = node.get("template")
            if isinstance(template, dict) and "containers" in (template.get("spec") or {}):
                yield template
            for value in node.values():
                yield from templates(value)

    for each in objects:
        for template in templates(each.get("spec")):
            metadata = {"name": each["metadata"]["name"], "labels": template["metadata"].get("labels", {})}
            metadata["namespace"] = each["metadata"].get("namespace", RELEASE_NAMESPACE)
            spec = copy.deepcopy(template["spec"])
            for claim in each["spec"].get("volumeClaimTemplates", []):  # a StatefulSet's pods get these as volumes
                volume = {"claimName": claim["metadata"]["name"]}
                spec.setdefault("volumes", []).append(
                    {"name": claim["metadata"]["name"], "persistentVolumeClaim": volume}
                )
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def admit(plane: ControlPlane, pod: dict[str, Any]) -> str:
    """Return why a pod is not admitted; nothing is made."""
    return plane.kubectl("create", "--dry-run=server", "--filename=-", given=pod, check=False).stderr


def test_every_pod_is_admitted(applied: Applied) -> None:
    pods = list(pods_of(applied.objects))
    for pod in pods:
        assert admit(applied.plane, pod) == "", pod["metadata"]["name"]
    kinds = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}
    assert len(pods) >= len([each for each in applied.objects if each["kind"] in kinds])


def test_pod_that_asks_for_more_is_not_admitted(applied: Applied) -> None:
    pod = next(pods_of(applied.objects))
    for container in pod["spec"]["containers"]:
        container["securityContext"] = {**container["securityContext"], "allowPrivilegeEscalation": True}
    assert 'violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false' in admit(applied.plane, pod)


@pytest.mark.parametrize(
    "manifest", sorted((REPOSITORY / "spark-apps").glob("*/application.yaml")), ids=lambda path: path.parent.name
)
@pytest.mark.parametrize("role", ["driver", "executor"])
def test_applications_pods_are_admitted(plane: ControlPlane, place: str, manifest: Path, role: str) -> None:
    """As far as the manifest decides it: the Spark operator and Spark make the pods of what it says of each role."""
    spec = yaml.safe_load(manifest.read_text())["spec"]
    part = spec[role]
    container = {
        key: part[key] for key in ("env", "envFrom", "ports", "volumeMounts", "securityContext") if key in part
    }
    pod = {
        "containers": [{"name": "spark", "image": spec["image"], **container}],
        "serviceAccountName": "spark",
        "volumes": spec.get("volumes", []),
        "securityContext": part.get("podSecurityContext", {}),
    }
    metadata = {"name": f"{manifest.parent.name}-{role}", "namespace": place}
    assert admit(plane, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}) == ""
    pod["containers"][0]["securityContext"] = {}
    assert "violates PodSecurity" in admit(
        plane, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}
    )


# Who may do what: accounts of the values by default, and a table of what each may and may not.

EVERY_RIGHT = [
    (verb, resource if not rule["apiGroups"][0] else f"{resource}.{rule['apiGroups'][0]}")
    for rule in LAUNCHER_RULES
    for resource in rule["resources"]
    for verb in str(rule["verbs"]).split()
]
LAUNCHERS = ["airflow:airflow-worker", "airflow:airflow-triggerer", "airflow:airflow-dag-processor"]
ALL = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
MAY = [
    *((account, "streams", verb, resource) for account in LAUNCHERS for verb, resource in EVERY_RIGHT),
    *(("streams:spark", "streams", verb, "pods") for verb in ("create", "get", "list", "watch", "patch", "delete")),
    *(("streams:spark", "streams", verb, "configmaps") for verb in ("create", "deletecollection")),
]
MAY_NOT = [
    # Nobody reads secrets or goes into a pod, anywhere.
    *(
        (account, where, verb, resource)
        for account in (*LAUNCHERS, "streams:spark", "streams:ingest", "streams:default", "millrace:default")
        for where in ("streams", "airflow", "millrace")
        for verb, resource in (
            ("get", "secrets"),
            ("list", "secrets"),
            ("create", "pods/exec"),
            ("create", "roles.rbac.authorization.k8s.io"),
        )
    ),
    # Airflow starts applications and jobs in one namespace; it makes no pods there, and changes no running job.
    *((account, "streams", verb, "pods") for account in LAUNCHERS for verb in ("create", "patch", "delete")),
    *((account, "streams", verb, "jobs.batch") for account in LAUNCHERS for verb in ("patch", "update")),
    *((account, "streams", "update", "sparkapplications.sparkoperator.k8s.io") for account in LAUNCHERS),
    *((account, "streams", verb, "configmaps") for account in LAUNCHERS for verb in ALL),
    *(
        (account, "millrace", "get", resource)
        for account in LAUNCHERS
        for resource in ("pods", "jobs.batch", "kafkas.kafka.strimzi.io")
    ),
    *(
        (account, "", verb, resource)
        for account in LAUNCHERS
        for verb, resource in (("list", "namespaces"), ("get", "nodes"))
    ),
    # Drivers look after their executors, and after nothing else.
    *(("streams:spark", "streams", verb, "sparkapplications.sparkoperator.k8s.io") for verb in ALL),
    *(("streams:spark", "streams", verb, "jobs.batch") for verb in ALL),
    *(("streams:spark", where, "list", "pods") for where in ("airflow", "millrace")),
    # Feeds have no business with Kubernetes.
    *(
        ("streams:ingest", "streams", verb, resource)
        for verb in ALL
        for resource in ("pods", "jobs.batch", "configmaps")
    ),
]


@pytest.fixture(scope="module")
def by_default(plane: ControlPlane) -> ControlPlane:
    """A control plane with the Roles of the chart, with the values that it has by default."""
    objects = documents(render_text())
    rights = [each for each in objects if each["apiVersion"].startswith("rbac.")]
    plane.kubectl(*APPLY, given=[namespace(name) for name in ("streams", "airflow", "millrace")])
    plane.kubectl(*APPLY, given=rights)
    return plane


@pytest.mark.parametrize("account", sorted({row[0] for row in MAY + MAY_NOT}))
def test_account_may_do_what_it_needs_and_no_more(by_default: ControlPlane, account: str) -> None:
    rows = [
        (row, expected) for table, expected in ((MAY, True), (MAY_NOT, False)) for row in table if row[0] == account
    ]
    answers = may(by_default, account, [row for row, _ in rows])
    wrong = [
        f"{verb} {resource} in {where or 'the cluster'}: {answer}, not {expected}"
        for ((_, where, verb, resource), expected), answer in zip(rows, answers, strict=True)
        if answer is not expected
    ]
    assert wrong == []


def may(plane: ControlPlane, account: str, rows: list[tuple[str, str, str, str]]) -> list[bool]:
    """Ask the API server whether an account may do what each row says; all in one command."""
    place = account.partition(":")[0]
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{place}"]
    reviews = []
    for _, where, verb, named in rows:
        kind, _, subresource = named.partition("/")
        resource, _, group = kind.partition(".")
        asked = {"namespace": where, "verb": verb, "group": group, "resource": resource, "subresource": subresource}
        who = {"user": f"system:serviceaccount:{account}", "groups": groups}
        reviews.append(
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {**who, "resourceAttributes": asked},
            }
        )
    done = plane.kubectl("create", "-f", "-", "-o", r"jsonpath={.status.allowed}{'\n'}", given=reviews)
    return [line == "true" for line in done.stdout.split()]


def test_launchers_role_is_the_one_that_the_target_was_tried_with() -> None:
    rules = by_name(documents(render_text()), "Role")["airflow-launcher"]["rules"]

    def plain(each: dict[str, Any]) -> tuple[Any, ...]:
        verbs = each["verbs"] if isinstance(each["verbs"], list) else each["verbs"].split()
        return (each["apiGroups"], each["resources"], sorted(verbs))

    assert sorted(map(plain, rules)) == sorted(map(plain, LAUNCHER_RULES))
