"""Our values for the upstream charts, against the charts themselves; the namespaces; what is pinned."""

import pytest
import yaml

from embedded.paths import REPOSITORY
from k8s.install.releases import ENVIRONMENTS, find_release, releases, versions
from tests.deploy import upstream

UPSTREAM = [release for release in releases() if release.version is not None]
EVERY = pytest.mark.parametrize("environment", ENVIRONMENTS)
EACH = pytest.mark.parametrize("release", UPSTREAM, ids=lambda release: release.name)
FREE = (
    # Settings by other programs' names, of which the charts know only some.
    "config.",
    "grafana.grafana.ini.",
    # Kubernetes' own fields, of which the charts name the ones that they set.
    "controller.podSecurityContext.",
    "webhook.podSecurityContext.",
    # Known to the charts' helpers, with no default.
    "grafana.fullnameOverride",
    # Objects that values make, by names of ours.
    "extraConfigMaps.",
    "labels.",
)


def containers(objects):
    """Every container of every pod: its pod's name, the pod's spec, and itself. The pod template of tasks too."""
    for name, spec in pods(objects):
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
            yield f"{name}/{container['name']}", spec, container


def pods(objects):
    for each in objects:
        kind, name = each["kind"], each["metadata"]["name"]
        if kind in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
            yield f"{kind}/{name}", each["spec"]["template"]["spec"]
        elif kind == "CronJob":
            yield f"{kind}/{name}", each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif kind == "ConfigMap" and "pod_template_file.yaml" in (each.get("data") or {}):
            yield "task", yaml.safe_load(each["data"]["pod_template_file.yaml"])["spec"]


def restricted(spec, container):
    """What Pod Security `restricted` has against a container."""
    pod, own = spec.get("securityContext") or {}, container.get("securityContext") or {}
    either = {**pod, **own}
    found = []
    if own.get("allowPrivilegeEscalation") is not False:
        found.append("may gain privileges")
    if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
        found.append("keeps capabilities")
    if either.get("runAsNonRoot") is not True or either.get("runAsUser") == 0:
        found.append("may be root")
    if either.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        found.append("has no seccomp profile")
    if own.get("privileged") or any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("is on the host")
    kinds = {key for volume in spec.get("volumes") or [] for key in volume} - {"name"}
    found += sorted(
        kinds
        - {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
        - {"projected", "secret"}
    )
    return found


@EVERY
@EACH
def test_every_value_is_one_that_the_chart_has(release, environment):
    unknown = upstream.unknown_values(release, environment)
    assert [each for each in unknown if not each.startswith(FREE)] == []


@EVERY
@EACH
def test_pods_are_restricted_where_the_namespace_is(release, environment):
    objects = upstream.render(release.name, environment)
    found = {name: restricted(spec, container) for name, spec, container in containers(objects)}
    assert found
    wrong = {name: problems for name, problems in found.items() if problems}
    if release.namespace == "monitoring":  # the one namespace that is not restricted, for the one pod that can't be
        assert set(wrong) == {"DaemonSet/node-exporter/node-exporter"}
    else:
        assert wrong == {}


@EVERY
@EACH
def test_every_container_says_what_it_needs(release, environment):
    for name, _, container in containers(upstream.render(release.name, environment)):
        if name.endswith("wait-for-airflow-migrations"):
            assert container["resources"], name  # takes those of its component
        requests, limits = container["resources"].get("requests", {}), container["resources"].get("limits", {})
        assert {"cpu", "memory"} <= set(requests), name
        assert "memory" in limits, name


@EVERY
@EACH
def test_upstream_renders_are_the_same_each_time_and_need_no_hooks(release, environment):
    first, second = upstream.render_text(release, environment), upstream.render_text(release, environment)
    assert first == second
    assert "helm.sh/hook" not in first
    for each in yaml.load_all(first, upstream.Loader):
        if each and each["kind"] == "Secret":
            # Alertmanager's settings, which name no receiver.
            assert each["metadata"]["name"] == "alertmanager-monitoring"


@EVERY
@EACH
def test_definitions_that_later_releases_need_are_brought(release, environment):
    names = {
        each["metadata"]["name"]
        for each in upstream.render(release.name, environment, crds=True)
        if each["kind"] == "CustomResourceDefinition"
    }
    assert set(release.brings.definitions) <= names


@EACH
def test_disruption_budgets_say_one_thing_and_leave_room(release):
    for each in upstream.render(release.name, "production"):
        if each["kind"] == "PodDisruptionBudget":
            assert len({"minAvailable", "maxUnavailable"} & set(each["spec"])) == 1, each["metadata"]["name"]


def airflow(environment="kind"):
    return upstream.render("airflow", environment)


def test_airflow_names_every_secret_that_is_made_for_it_and_no_other():
    named = set()
    for _, spec, container in containers(airflow("production")):
        for entry in container.get("env") or []:
            named.add(entry.get("valueFrom", {}).get("secretKeyRef", {}).get("name"))
        for entry in container.get("envFrom") or []:
            named.add(entry.get("secretRef", {}).get("name"))
        for volume in spec.get("volumes") or []:
            named.add(volume.get("secret", {}).get("secretName"))
    assert named - {None} == set(find_release("airflow").needs.secrets["airflow"])


def test_tasks_run_in_our_image_with_our_surroundings():
    specs = dict(pods(airflow()))
    [base] = specs["task"]["containers"]
    assert base["image"] == specs["Deployment/airflow-scheduler"]["containers"][0]["image"]
    assert base["image"].startswith("millrace/airflow:")
    assert specs["task"]["serviceAccountName"] == "airflow-worker"
    sources = {next(iter(entry.values()))["name"] for entry in base["envFrom"]}
    assert sources == {"airflow-connections", "millrace", "airflow-variables"}
    mounts = {mount["mountPath"]: mount["name"] for mount in base["volumeMounts"]}
    assert mounts["/etc/millrace/kafka"] == "kafka-ca"


def test_airflow_is_configured_as_decided():
    import configparser

    [text] = [each["data"]["airflow.cfg"] for each in airflow() if "airflow.cfg" in (each.get("data") or {})]
    config = configparser.ConfigParser(interpolation=None)
    config.read_string(text)
    assert config["core"]["executor"] == "KubernetesExecutor"
    assert config["core"]["dags_folder"] == "/opt/millrace/dags"
    assert config["logging"]["remote_logging"] == "True"
    assert config["logging"]["remote_base_log_folder"] == "s3://millrace/airflow-logs"
    assert config["metrics"]["statsd_on"] == "True"
    assert int(config["kubernetes_executor"]["worker_pods_creation_batch_size"]) > 1
    assert "FabAuthManager" in config["core"]["auth_manager"]


def test_pools_and_variables_are_declared():
    objects = airflow("production")
    [migration] = dict(pods(objects))["Job/airflow-run-airflow-migrations"]["containers"]
    assert migration["args"][-1].endswith("airflow pools import /opt/millrace/dags/pools.json")
    [variables] = [each for each in objects if each["metadata"]["name"] == "airflow-variables"]
    assert variables["data"] == {"AIRFLOW_VAR_ENVIRONMENT": "production"}


def test_the_administrator_s_password_is_on_no_command_line():
    [job] = [spec for name, spec in pods(airflow()) if name == "Job/airflow-create-user"]
    [container] = job["containers"]
    assert "--password" not in " ".join(container["args"])
    assert 'printf \'%s\\n\' "$ADMIN_PASSWORD" "$ADMIN_PASSWORD" | airflow users create' in container["args"][-1]


def test_operators_watch_only_the_namespaces_of_ours():
    strimzi = upstream.render("strimzi", "production")
    [deployment] = [each for each in strimzi if each["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert environment["STRIMZI_NAMESPACE"] == "millrace,strimzi"  # its own the chart always adds
    spark = upstream.render("spark-operator", "production")
    [controller] = [
        each
        for each in spark
        if each["metadata"]["name"] == "spark-operator-controller" and each["kind"] == "Deployment"
    ]
    arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--namespaces=streams" in arguments
    [role] = [
        each
        for each in spark
        if each["kind"] == "ClusterRole" and each["metadata"]["name"] == controller["metadata"]["name"]
    ]
    assert role["rules"] == [
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["get"]}
    ]
    assert not [
        each for each in spark if each["kind"] == "ServiceAccount" and each["metadata"].get("namespace") == "streams"
    ]


def test_prometheus_takes_monitors_and_rules_of_every_release_and_grafana_its_dashboards():
    objects = upstream.render("monitoring", "kind")
    [prometheus] = [each["spec"] for each in objects if each["kind"] == "Prometheus"]
    for kind in ("podMonitor", "serviceMonitor", "rule", "probe", "scrapeConfig"):
        assert prometheus[f"{kind}Selector"] == {}, kind
        assert prometheus[f"{kind}NamespaceSelector"] == {}, kind
    grafana = dict(pods(objects))["Deployment/grafana"]
    [sidecar] = [each for each in grafana["containers"] if each["name"] == "grafana-sc-dashboard"]
    environment = {entry["name"]: entry.get("value") for entry in sidecar["env"]}
    assert (environment["LABEL"], environment["LABEL_VALUE"], environment["NAMESPACE"]) == (
        "grafana_dashboard",
        "1",
        "ALL",
    )
    [main] = [each for each in grafana["containers"] if each["name"] == "grafana"]
    secrets = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for entry in main["env"]
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    assert secrets == {"grafana-admin"}


def test_services_of_the_pages_are_those_that_the_charts_make():
    from k8s.install.pages import PAGES

    for page in PAGES:
        if page.namespace in ("airflow", "monitoring"):
            ports = {
                each["metadata"]["name"]: [port["port"] for port in each["spec"]["ports"]]
                for each in upstream.render(page.namespace, "kind")
                if each["kind"] == "Service"
            }
            assert page.port in ports[page.service]


def test_jobs_to_replace_are_those_that_the_chart_makes():
    jobs = {each["metadata"]["name"] for each in airflow() if each["kind"] == "Job"}
    assert jobs == set(find_release("airflow").replace)


def test_versions_are_pinned_once():
    values = yaml.safe_load((REPOSITORY / "k8s/releases/airflow.yaml").read_text())
    assert values["airflowVersion"] == versions()["airflow"]["version"]
    import tomllib

    ours = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert values["defaultAirflowTag"] == ours
    used = {release.chart for release in UPSTREAM}
    assert used == set(versions()["charts"])
    node = versions()["kind"]["node_image"]
    assert node.startswith(f"kindest/node:v{versions()['kubernetes']['tested']}.")
    assert "@sha256:" in node
    cluster = yaml.safe_load((REPOSITORY / "k8s/kind/cluster.yaml").read_text())
    assert [each["image"] for each in cluster["nodes"]] == [node]
    assert cluster["name"] == "millrace"


def test_namespaces_are_restricted_but_for_the_one_that_says_why():
    documents = list(yaml.safe_load_all((REPOSITORY / "k8s/namespaces.yaml").read_text()))
    levels = {
        each["metadata"]["name"]: each["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for each in documents
    }
    wanted = {release.namespace for release in releases()} | {"streams"}
    assert levels == {name: "privileged" if name == "monitoring" else "restricted" for name in wanted}


def test_production_s_bucket_and_registry_are_said_twice_and_the_same():
    ours = upstream.merged_values(find_release("millrace"), "production")
    theirs = upstream.merged_values(find_release("airflow"), "production")
    bucket = ours["objectStore"]["external"]["bucket"]
    assert theirs["config"]["logging"]["remote_base_log_folder"] == f"s3://{bucket}/airflow-logs"
    assert theirs["defaultAirflowRepository"].startswith(f"{ours['images']['registry']}/")


def selects(selector, labels):
    """Whether a Kubernetes label selector takes labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


@EVERY
def test_every_part_of_airflow_that_asks_the_database_is_let_through_to_it(environment):
    """The policies are our chart's, the pods and their labels Airflow's: a component that neither knows would hang."""
    [policy] = [
        each["spec"]["podSelector"]
        for each in upstream.render("millrace", environment)
        if each["kind"] == "NetworkPolicy" and each["metadata"]["name"] == "to-database"
    ]
    asking = 0
    for each in airflow(environment):
        template = each.get("spec", {}).get("jobTemplate", each).get("spec", {}).get("template")
        if each["kind"] not in ("Deployment", "StatefulSet", "Job", "CronJob") or "statsd" in each["metadata"]["name"]:
            continue
        names = {entry["name"] for entry in template["spec"]["containers"][0]["env"]}
        assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" in names
        assert selects(policy, template["metadata"]["labels"]), each["metadata"]["name"]
        asking += 1
    assert asking >= 6


def test_accounts_that_start_spark_applications_are_those_of_airflow_s_pods():
    values = yaml.safe_load((REPOSITORY / "charts" / "millrace" / "values.yaml").read_text())
    accounts = {each["metadata"]["name"] for each in airflow() if each["kind"] == "ServiceAccount"}
    assert set(values["airflow"]["serviceAccounts"]) <= accounts
    assert dict(pods(airflow()))["task"]["serviceAccountName"] in values["airflow"]["serviceAccounts"]
