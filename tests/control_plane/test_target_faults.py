"""Each way in which the cluster can refuse or be away is one sentence that says what to do."""

import shutil
from pathlib import Path

import pytest
import yaml

from embedded.ports import free_port
from millrace.errors import MillraceError, TemporaryError
from millrace.targets import cluster, get_target
from millrace.targets.base import JobSpec, Target
from millrace.targets.cluster import Cluster
from millrace.targets.refusals import Kind
from tests.control_plane.conftest import OWNER
from tests.control_plane.spark import NAME
from tests.kubernetes.plane import ControlPlane

JOB = JobSpec("replay", "ingest")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request is sent twice."""
    monkeypatch.setattr(cluster, "RETRIES", 0)


def changed(kubeconfig: Path, to: Path, **server: object) -> str:
    """Copy a kubeconfig with other settings of its cluster."""
    document = yaml.safe_load(kubeconfig.read_text())
    document["clusters"][0]["cluster"] |= server
    to.write_text(yaml.safe_dump(document))
    return str(to)


def test_account_without_rights_is_named_with_verb_and_resource(
    target: Target, plane: ControlPlane, place: str, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = plane.kubeconfig(f"{place}-stranger", token=plane.token(place, "stranger"))
    monkeypatch.setenv("KUBECONFIG", str(stranger))
    account = f"system:serviceaccount:{place}:stranger"
    for call, verb, resource in (
        (lambda: get_target().start_application(manifest, OWNER), "get", "sparkapplications"),
        (lambda: get_target().start_job(JOB, OWNER), "get", "jobs"),
        (lambda: get_target().stop_application(NAME, 0.0), "get", "sparkapplications"),
    ):
        with pytest.raises(MillraceError) as caught:
            call()
        assert str(caught.value) == (
            f"{account} may not {verb} {resource} in namespace {place}: bind it to a Role that allows that (the "
            "chart's is `airflow-launcher`)."
        )


def test_launcher_may_not_reach_secrets(place: str, launcher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(launcher))
    with pytest.raises(MillraceError, match="airflow-worker may not list secrets in namespace"):
        Cluster(place).list(Kind("Secret", "/api/v1", "secrets"), {})


def test_namespace_that_is_not_there(
    plane: ControlPlane, manifest: Path, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(plane.admin))
    monkeypatch.setenv("MILLRACE_NAMESPACE", "nowhere")
    with pytest.raises(MillraceError, match=f"There is no namespace nowhere in the cluster at {plane.url}: make it"):
        get_target().start_application(manifest, OWNER)


def test_operator_that_is_not_installed(plane: ControlPlane, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(plane.admin))
    unknown = Kind("SparkApplication", "/apis/sparkoperator.k8s.io/v9", "sparkapplications", "the Spark operator")
    with pytest.raises(
        MillraceError, match="does not know the kind SparkApplication: install the Spark operator first"
    ):
        Cluster(place).get(unknown, NAME)


def test_pod_security_and_quotas_are_no_want_of_rights(
    plane: ControlPlane, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(plane.admin))
    spec = {"serviceAccountName": "spark", "containers": [{"name": "c", "image": "i"}]}
    pod = {"metadata": {"name": "root"}, "spec": spec}
    with pytest.raises(MillraceError, match='forbids to create Pod root .*violates PodSecurity "restricted:latest"'):
        Cluster(place).create(Kind("Pod", "/api/v1", "pods"), pod)


@pytest.mark.usefixtures("impatient")
def test_cluster_that_can_not_be_reached(
    place: str, launcher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://127.0.0.1:{free_port()}"
    monkeypatch.setenv("KUBECONFIG", changed(launcher, tmp_path / "away", server=url))
    with pytest.raises(TemporaryError, match=rf"The Kubernetes API at {url} does not answer .*Connection refused\)"):
        Cluster(place).get(cluster.JOB, "replay")


@pytest.mark.usefixtures("impatient")
def test_certificate_that_is_not_trusted(
    plane: ControlPlane, place: str, launcher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "other.crt"
    shutil.copy(plane.authority.sign("other", "other", server=True)[0], own)
    monkeypatch.setenv("KUBECONFIG", changed(launcher, tmp_path / "untrusted", **{"certificate-authority": str(own)}))
    with pytest.raises(MillraceError, match=r"certificate of the Kubernetes API at .* is not trusted .*verify failed"):
        Cluster(place).get(cluster.JOB, "replay")


def test_token_that_has_expired(
    plane: ControlPlane, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = plane.kubeconfig(f"{place}-expired", token=f"expired-{place}")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(MillraceError, match=r"does not accept these credentials \(Unauthorized\): renew them"):
        Cluster(place).get(cluster.JOB, "replay")


@pytest.mark.parametrize(
    ("text", "said"), [(None, "No such file|Invalid kube-config"), ("clusters: [", "flow"), ("{}", "kube-config")]
)
def test_kubeconfig_that_can_not_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str
) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("MILLRACE_TARGET", "kubernetes")
    with pytest.raises(MillraceError, match=f"There is no way to a Kubernetes cluster .*({said}).*: set KUBECONFIG"):
        get_target()


def test_pods_own_account_is_used_where_there_is_no_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod these two variables are set; the token is missing here, so that is what is said."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    cluster.connect.cache_clear()
    with pytest.raises(MillraceError, match=r"no way to a Kubernetes cluster \(Service token file does not exist"):
        Cluster("streams")
