"""Who may do what: service accounts, their roles verb by verb, and the settings that tell each where everything is."""

from tests.charts.render import by_name, of_kind, render_chart


def granted(objects):
    """What each service account may do: (namespace, account) to {(namespace, group, resource): verbs}."""
    roles = {(each["metadata"]["namespace"], each["metadata"]["name"]): each for each in of_kind(objects, "Role")}
    found: dict[tuple[str, str], dict[tuple[str, str, str], set[str]]] = {}
    for binding in of_kind(objects, "RoleBinding"):
        namespace = binding["metadata"]["namespace"]
        for rule in roles[namespace, binding["roleRef"]["name"]]["rules"]:
            for subject in binding["subjects"]:
                rights = found.setdefault((subject["namespace"], subject["name"]), {})
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        rights.setdefault((namespace, group, resource), set()).update(rule["verbs"])
    return found


def test_each_account_may_do_exactly_what_it_needs():
    launcher = {
        ("streams", "sparkoperator.k8s.io", "sparkapplications"): {"get", "list", "watch", "create", "patch", "delete"},
        ("streams", "batch", "jobs"): {"get", "list", "watch", "create", "delete"},
        ("streams", "", "pods"): {"get", "list", "watch"},
        ("streams", "", "pods/log"): {"get"},
        ("streams", "", "events"): {"get", "list"},
    }
    assert granted(render_chart()) == {
        ("streams", "spark"): {
            ("streams", "", "pods"): {"create", "get", "list", "watch", "patch", "delete", "deletecollection"},
            ("streams", "", "configmaps"): {"create", "deletecollection"},
            ("streams", "", "persistentvolumeclaims"): {"create", "list", "deletecollection"},
            ("streams", "", "services"): {"deletecollection"},
        },
        ("airflow", "airflow-worker"): launcher,
        ("airflow", "airflow-triggerer"): launcher,
        ("airflow", "airflow-dag-processor"): launcher,
    }


def test_nothing_reaches_over_the_whole_cluster():
    objects = render_chart()
    assert not [each for each in objects if each["kind"] in {"ClusterRole", "ClusterRoleBinding"}]
    for role in of_kind(objects, "Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
            assert "secrets" not in rule["resources"]


def test_accounts_follow_their_namespaces_and_names():
    values = {
        "namespaces": {"streams": "data", "airflow": "orchestration"},
        "airflow": {"serviceAccounts": ["mine"]},
        "spark": {"serviceAccountAnnotations": {"role": "arn"}},
    }
    objects = render_chart(values)
    assert set(granted(objects)) == {("data", "spark"), ("orchestration", "mine")}
    accounts = by_name(objects, "ServiceAccount")
    assert {name: each["metadata"]["namespace"] for name, each in accounts.items()} == {
        "spark": "data",
        "ingest": "data",
    }
    assert accounts["ingest"]["automountServiceAccountToken"] is False
    assert accounts["spark"]["metadata"]["annotations"] == {"role": "arn"}


def settings(objects):
    """The ConfigMaps `millrace` by namespace."""
    maps = [each for each in of_kind(objects, "ConfigMap") if each["metadata"]["name"] == "millrace"]
    return {each["metadata"]["namespace"]: each["data"] for each in maps}


def test_everybody_is_told_where_everything_is():
    found = settings(render_chart())
    shared = {
        "KAFKA_BOOTSTRAP_SERVERS": "millrace-kafka-bootstrap.millrace.svc:9093",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SSL_CA_LOCATION": "/etc/millrace/kafka/ca.crt",
        "MILLRACE_STORAGE": "s3a://millrace",
        "AWS_ENDPOINT_URL_S3": "http://object-store.millrace.svc:7070",
        "AWS_REGION": "us-east-1",
    }
    assert found["streams"] == shared
    assert found["airflow"] == {
        **shared,
        "MILLRACE_TARGET": "kubernetes",
        "MILLRACE_NAMESPACE": "streams",
        "MILLRACE_SPARK_IMAGE": "millrace/spark:0.1.0",
        "MILLRACE_INGEST_IMAGE": "millrace/ingest:0.1.0",
    }


def test_applications_log_events_where_the_history_server_looks():
    objects = render_chart({"historyServer": {"enabled": True}})
    directory = settings(objects)["streams"]["MILLRACE_EVENT_LOG"]
    pod = by_name(objects, "Deployment")["history-server"]["spec"]["template"]["spec"]
    assert pod["initContainers"][0]["args"] == ["-mkdir", "-p", directory]
    options = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}["SPARK_HISTORY_OPTS"]
    assert f"-Dspark.history.fs.logDirectory={directory}" in options.split()
    for each in settings(render_chart()).values():
        assert "MILLRACE_EVENT_LOG" not in each


def test_settings_follow_the_values():
    plain = {"listeners": {"plain": {"enabled": True}, "tls": {"enabled": False}}, "name": "mine"}
    found = settings(render_chart({"kafka": plain, "images": {"registry": "registry.example.com/a/", "tag": "2"}}))
    for each in found.values():
        assert each["KAFKA_BOOTSTRAP_SERVERS"] == "mine-kafka-bootstrap.millrace.svc:9092"
        assert each["KAFKA_SECURITY_PROTOCOL"] == "PLAINTEXT"
        assert "KAFKA_SSL_CA_LOCATION" not in each
    assert found["airflow"]["MILLRACE_SPARK_IMAGE"] == "registry.example.com/a/millrace/spark:2"
