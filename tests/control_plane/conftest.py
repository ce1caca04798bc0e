"""A real API server for the tests of this folder, started once; each test gets a namespace of its own."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from embedded.paths import REPOSITORY
from millrace.targets import get_target, kubernetes
from millrace.targets.base import Target
from millrace.triggers import base
from tests.control_plane.pods import Kubelet, node
from tests.control_plane.spark import NAME, Driver, Operator
from tests.definitions import kafka_definitions, operators_definitions
from tests.kubernetes.plane import ControlPlane, control_plane, namespace

FOLDER = Path(__file__).parent
OWNER = "dag/run"
FIRST_BUILD_SECONDS = 2400
"""The first test may build the control plane."""

LAUNCHER_RULES = [
    {
        "apiGroups": ["sparkoperator.k8s.io"],
        "resources": ["sparkapplications"],
        "verbs": "get list watch create patch delete",
    },
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": "get list watch create delete"},
    {"apiGroups": [""], "resources": ["pods"], "verbs": "get list watch"},
    {"apiGroups": [""], "resources": ["pods/log"], "verbs": "get"},
    {"apiGroups": [""], "resources": ["events"], "verbs": "get list"},
]
"""What the chart's Role `airflow-launcher` allows; all tests of the target run with no other right."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.control_plane)
            item.add_marker(pytest.mark.timeout(FIRST_BUILD_SECONDS))


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until a condition holds; return what it gave."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.1)
    return result


def definitions() -> list[dict[str, Any]]:
    """Of every kind that operators bring."""
    return [*operators_definitions().values(), *kafka_definitions().values()]


@pytest.fixture(scope="package")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane, with the definitions of every kind that we use."""
    with control_plane(tmp_path_factory.mktemp("control-plane")) as running:
        running.define(definitions())
        yield running


@pytest.fixture(scope="package")
def controllers(plane: ControlPlane) -> None:
    """Namespaces, service accounts, Jobs and garbage are looked after."""
    plane.start_controllers()
    eventually(lambda: plane.kubectl("get", "serviceaccount", "default", check=False).returncode == 0)


@pytest.fixture(scope="package")
def logs(plane: ControlPlane) -> Iterator[dict[str, bytes]]:
    """What pods have written, by namespace and name."""
    written: dict[str, bytes] = {}
    with node(plane, written):
        yield written


@pytest.fixture
def place(plane: ControlPlane, controllers: None) -> str:
    """A namespace that enforces Pod Security `restricted`, with the service accounts of ours."""
    name = f"streams-{uuid.uuid4().hex[:8]}"
    accounts = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": name}}
        for account in ("spark", "ingest", "airflow-worker", "stranger")
    ]
    plane.kubectl("create", "-f", "-", given=[namespace(name), *accounts])
    return name


@pytest.fixture
def kubelet(plane: ControlPlane, place: str, logs: dict[str, bytes]) -> Kubelet:
    return Kubelet(plane, place, logs)


@pytest.fixture
def launcher(plane: ControlPlane, place: str) -> Path:
    """The kubeconfig of a service account that has the Role `airflow-launcher`, and no other."""
    where = {"name": "airflow-launcher", "namespace": place}
    api = "rbac.authorization.k8s.io"
    rules = [{**rule, "verbs": rule["verbs"].split()} for rule in LAUNCHER_RULES]  # type: ignore[attr-defined]
    role = {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": where, "rules": rules}
    subject = {"kind": "ServiceAccount", "name": "airflow-worker", "namespace": place}
    reference = {"apiGroup": api, "kind": "Role", "name": "airflow-launcher"}
    binding = {**role, "kind": "RoleBinding", "subjects": [subject], "roleRef": reference}
    del binding["rules"]
    plane.kubectl("create", "-f", "-", given=[role, binding])
    return plane.kubeconfig(f"{place}-worker", token=plane.token(place, "airflow-worker"))


@pytest.fixture
def target(place: str, launcher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The target as Airflow has it: with the launcher's rights only."""
    monkeypatch.setenv("MILLRACE_TARGET", "kubernetes")
    monkeypatch.setenv("MILLRACE_NAMESPACE", place)
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}/storage")
    monkeypatch.setenv("KUBECONFIG", str(launcher))
    monkeypatch.setattr(base, "SETTLE_SECONDS", 0.0)
    return get_target()


@pytest.fixture
def operator(plane: ControlPlane, place: str) -> Operator:
    return Operator(plane, place)


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.ends()


@pytest.fixture
def manifest(tmp_path: Path, driver: Driver) -> Path:
    """The manifest of event-windows; only the port is one that is free here."""
    document = yaml.safe_load((REPOSITORY / "spark-apps" / NAME / "application.yaml").read_text())
    port = next(port for port in document["spec"]["driver"]["ports"] if port["name"] == "metrics")
    port["containerPort"] = driver.port
    path = tmp_path / "application.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def started(target: Target, manifest: Path, operator: Operator, kubelet: Kubelet) -> str:
    """The application runs; the name of its driver's pod. Its endpoint doesn't listen yet."""
    target.start_application(manifest, OWNER)
    pod = kubelet.driver(NAME, operator.object())
    operator.says("SUBMITTED")
    kubelet.runs(pod)
    operator.says("RUNNING")
    return pod


def context(try_number: int = 1, instance: Any = None) -> Any:
    """What Airflow tells a task."""
    ti = instance or SimpleNamespace(task_id="start_streaming", try_number=try_number)
    return {"dag": SimpleNamespace(dag_id="dag"), "run_id": "run", "ti": ti}


def count_looks(target: Target) -> Callable[[], int]:
    """Return what tells how often the target has looked into the cluster since now."""
    assert isinstance(target, kubernetes.KubernetesTarget)
    looks, look = [0], target._look

    def counted(*given: Any) -> kubernetes.Seen:
        looks[0] += 1
        return look(*given)

    target._look = counted  # type: ignore[method-assign, assignment]
    return lambda: looks[0]
