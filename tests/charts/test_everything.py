"""Whatever the chart renders: what Kubernetes takes, what Pod Security lets run, nothing secret, nothing twice."""

import copy

import pytest
import yaml

from embedded.paths import REPOSITORY
from tests.charts.kubernetes_api import kubernetes_problems, releases
from tests.charts.pod_security import containers, violations
from tests.charts.render import CHART, EVERYTHING, RELEASE_NAMESPACE, by_name, render_chart, render_text, workloads
from tests.charts.schemas import problems
from tests.definitions import known_definitions

SETS = {
    "default": {},
    "least": {
        "postgresql": {"enabled": False, "external": {"cidrs": ["192.0.2.1/32"]}},
        "objectStore": {"enabled": False, "external": {"region": "eu-central-1", "bucket": "mine"}},
        "kafka": {"metrics": {"enabled": False}, "exporter": {"enabled": False}},
        "networkPolicies": {"enabled": False},
        "priorityClasses": {"create": False},
    },
    "a database and a store of one's own": {
        "postgresql": {"enabled": False, "external": {"cidrs": ["192.0.2.1/32"]}},
        "objectStore": {
            "enabled": False,
            "external": {"endpoint": "https://s3.example.com:9000", "bucket": "mine", "cidrs": ["192.0.2.0/24"]},
        },
        "historyServer": {"enabled": True},
    },
    "everything": yaml.safe_load(EVERYTHING.read_text()),
    **{
        overlay.parent.name: yaml.safe_load(overlay.read_text())
        for overlay in sorted((REPOSITORY / "k8s" / "environments").glob("*/millrace.yaml"))
    },
}
each_set = pytest.mark.parametrize("values", SETS.values(), ids=SETS.keys())


@each_set
def test_every_object_is_what_kubernetes_and_the_operators_take(values, definitions):
    known, unknown = {**known_definitions(), **definitions}, set()
    for each in render_chart(values):
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] in known:
            assert problems(each, known[each["kind"]]) == [], name
        elif each["apiVersion"].partition("/")[0].endswith(".coreos.com"):
            unknown.add(each["kind"])
        else:
            for release in releases():
                assert kubernetes_problems(each, release) == [], f"{name}, Kubernetes {release}"
    if unknown:
        pytest.skip(f"needs the definitions of {', '.join(unknown)}: set MILLRACE_SCHEMAS to a folder with crds/ in it")


def test_each_environment_says_what_it_is():
    environments = {name: SETS[name]["environment"] for name in ("kind", "staging", "production")}
    assert environments == {"kind": "development", "staging": "staging", "production": "production"}


def test_a_misspelt_field_would_be_found():
    deployment = by_name(render_chart(files=(EVERYTHING,)), "Deployment")["kafka-ui"]
    wrong = copy.deepcopy(deployment)
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    for release in releases():
        assert any("readynessProbe" in problem for problem in kubernetes_problems(wrong, release))
        assert "has no" in kubernetes_problems({**deployment, "apiVersion": "extensions/v1beta1"}, release)[0]


def place(each):
    """The namespace of an object."""
    return each["metadata"].get("namespace", RELEASE_NAMESPACE)


def test_everything_is_on_in_everything():
    """Each switch of the values is on there, each list and map has an entry, or the file checks less than it says."""
    chart, ours = yaml.safe_load((CHART / "values.yaml").read_text()), SETS["everything"]

    def off(defaults, values, path=""):
        for name, default in defaults.items():
            value, where = values.get(name, default) if values else default, f"{path}.{name}".lstrip(".")
            if isinstance(default, dict) and default:
                yield from off(default, value, where)
            elif value in (False, "", [], {}):
                yield where

    # One pool instead of two is another shape, and an S3 or a database of one's own takes the place of ours.
    others = (
        "kafka.combinedNodes",
        "kafka.controllers.storage.deleteClaim",
        "postgresql.external",
        "objectStore.external",
    )
    assert [where for where in off(chart, ours) if not where.startswith(others)] == []


@each_set
def test_names_are_unique_and_every_object_is_labelled(values):
    objects = render_chart(values)
    names = [(each["kind"], place(each), each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)
    for each in objects:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "millrace"


@each_set
def test_whatever_an_object_names_is_there(values):
    objects = render_chart(values)
    there = {(each["kind"], place(each), each["metadata"]["name"]) for each in objects}
    pods = [
        (place(each), each["spec"]["template"]) for each in objects if each["kind"] in {"Deployment", "StatefulSet"}
    ]
    for namespace, template in pods:
        pod = template["spec"]
        maps = [volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume]
        maps += [source["configMapRef"]["name"] for one in containers(pod) for source in one.get("envFrom", [])]
        assert {("ConfigMap", namespace, name) for name in maps} <= there
        if "serviceAccountName" in pod:
            assert ("ServiceAccount", namespace, pod["serviceAccountName"]) in there
        volumes = {volume["name"] for volume in pod["volumes"]} | {"data"}  # of StatefulSets, by claim
        for one in containers(pod):
            assert {mount["name"] for mount in one["volumeMounts"]} <= volumes
    for service in (each for each in objects if each["kind"] == "Service"):
        selector, [port] = service["spec"]["selector"], service["spec"]["ports"]
        [chosen] = [
            template["spec"]
            for namespace, template in pods
            if namespace == place(service) and selector.items() <= template["metadata"]["labels"].items()
        ]
        ports = {one["name"]: one["containerPort"] for each in chosen["containers"] for one in each["ports"]}
        assert ports[port["targetPort"]] == port["port"]


@each_set
def test_every_pod_is_restricted_and_sized(values):
    for name, pod in workloads(render_chart(values)).items():
        assert violations(pod) == [], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
            assert not container["image"].endswith(":latest"), name
        for container in pod["containers"]:
            assert "readinessProbe" in container or "livenessProbe" in container, name


def test_pod_security_is_what_the_check_knows():
    [pod] = [pod for name, pod in workloads(render_chart()).items() if name == "StatefulSet/object-store"]

    def changed(change):
        other = copy.deepcopy(pod)
        change(other)
        return violations(other)

    context = lambda each: each["containers"][0]["securityContext"]  # noqa: E731
    assert changed(lambda each: each["securityContext"].pop("runAsNonRoot"))
    assert changed(lambda each: each["securityContext"].pop("seccompProfile"))
    assert changed(lambda each: context(each).pop("allowPrivilegeEscalation"))
    assert changed(lambda each: context(each).pop("capabilities"))
    assert changed(lambda each: context(each).update(runAsUser=0))
    assert changed(lambda each: each["volumes"].append({"name": "node", "hostPath": {"path": "/"}}))
    assert changed(lambda each: each.update(hostNetwork=True))


@each_set
def test_nothing_secret_is_rendered(values):
    objects = render_chart(values)
    assert not [each for each in objects if each["kind"] == "Secret"]
    for name, pod in workloads(objects).items():
        for container in containers(pod):
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("PASSWORD", "SECRET", "ACCESS_KEY")):
                    by_file = variable["name"].endswith("_FILE")
                    assert by_file or "secretKeyRef" in variable["valueFrom"], (name, variable["name"])


def test_priority_goes_to_what_holds_data():
    objects = render_chart(
        {"ingest": {"feeds": [{"name": "one", "arguments": ["simulate-events"], "topic": "events"}]}}
    )
    classes = {name: each["value"] for name, each in by_name(objects, "PriorityClass").items()}
    assert classes["millrace-data"] > classes["millrace-streams"] > 0
    pods = {name: pod.get("priorityClassName") for name, pod in workloads(objects).items()}
    assert pods == {
        "StatefulSet/postgresql": "millrace-data",
        "StatefulSet/object-store": "millrace-data",
        "Deployment/ingest-one": "millrace-streams",
    }
    for pool in by_name(objects, "KafkaNodePool").values():
        assert pool["spec"]["template"]["pod"]["priorityClassName"] == "millrace-data"
    without = render_chart({"priorityClasses": {"create": False, "data": "", "streams": ""}})
    assert not by_name(without, "PriorityClass")
    assert not [pod for pod in workloads(without).values() if "priorityClassName" in pod]


def test_two_renders_are_the_same_bytes():
    one, other = (render_text(files=(EVERYTHING,), anew=True) for _ in range(2))
    assert one == other
