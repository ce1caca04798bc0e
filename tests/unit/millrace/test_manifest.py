"""From a SparkApplication manifest to one local spark-submit."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.config import load_settings
from millrace.errors import MillraceError
from millrace.targets.manifest import (
    RestartPolicy,
    driver_environment,
    load_manifest,
    local_path,
    parse_memory,
    submit_command,
)

MANIFEST = {
    "apiVersion": "sparkoperator.k8s.io/v1beta2",
    "kind": "SparkApplication",
    "metadata": {"name": "counter"},
    "spec": {
        "type": "Python",
        "mainApplicationFile": "local:///opt/millrace/apps/counter.py",
        "arguments": ["--settings", "local:///opt/millrace/apps/settings.yaml", "--n", 3],
        "sparkConf": {
            "spark.sql.shuffle.partitions": 2,
            "spark.kubernetes.driver.label.a": "b",
            "spark.driver.extraClassPath": "/opt/millrace/own.jar",
        },
        "restartPolicy": {"type": "OnFailure", "onFailureRetries": 3, "onFailureRetryInterval": 7},
        "driver": {
            "memory": "512m",
            "env": [
                {"name": "MODE", "value": "fast"},
                {"name": "APP_PATH", "value": "/opt/millrace/apps:/opt/millrace"},
                {"name": "BROKER", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}},
            ],
        },
        "executor": {"instances": 2, "cores": 3, "memory": "1g"},
    },
}


def write(folder: Path, **spec: object) -> Path:
    path = folder / "application.yaml"
    path.write_text(yaml.safe_dump({**MANIFEST, "spec": {**MANIFEST["spec"], **spec}}))  # type: ignore[dict-item]
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "counter.py").touch()
    return tmp_path


def options(command: list[str], name: str) -> list[str]:
    return [command[index + 1] for index, part in enumerate(command) if part == name]


def test_sizes_become_slots_and_one_heap(root: Path) -> None:
    application = load_manifest(write(root))
    assert (application.cores, application.memory_mib) == (6, 512 + 2 * 1024)
    command = submit_command(application, root, None)
    assert Path(command[0]).is_file()
    assert options(command, "--master") == ["local[6,4]"]
    assert options(command, "--driver-memory") == ["2560m"]
    assert options(command, "--name") == ["counter"]


def test_paths_in_the_image_become_paths_in_the_repository(root: Path) -> None:
    command = submit_command(load_manifest(write(root)), root, None, ["--set", "a=local:///opt/millrace/b"])
    main = command.index(str(root / "apps" / "counter.py"))
    assert command[main + 1 :] == ["--settings", str(root / "apps/settings.yaml"), "--n", "3", "--set", f"a={root}/b"]


@pytest.mark.parametrize(
    ("text", "mapped"),
    [
        ("/opt/millrace", "/r"),
        ("local:///opt/millrace/a", "/r/a"),
        ("/opt/millrace/a:/opt/millrace/b", "/r/a:/r/b"),
        ("/opt/millraces/a", "/opt/millraces/a"),
        ("local:///usr/share/x", "local:///usr/share/x"),
    ],
)
def test_only_the_images_own_folder_is_mapped(text: str, mapped: str) -> None:
    assert local_path(text, Path("/r")) == mapped


def test_spark_conf_is_passed_on_without_what_only_kubernetes_knows(root: Path) -> None:
    conf = options(submit_command(load_manifest(write(root)), root, root / "jars"), "--conf")
    assert "spark.sql.shuffle.partitions=2" in conf
    assert f"spark.driver.extraClassPath={root}/own.jar:{root}/jars/*" in conf
    assert not [entry for entry in conf if "kubernetes" in entry]
    assert {"spark.driver.host=127.0.0.1", "spark.ui.enabled=false"} <= set(conf)


def test_restart_policy(root: Path) -> None:
    assert load_manifest(write(root)).restart == RestartPolicy("OnFailure", 3, 7)
    assert load_manifest(write(root, restartPolicy={"type": "Always"})).restart == RestartPolicy("Always", 0, 5)
    assert load_manifest(write(root, restartPolicy=None)).restart.type == "Never"


def test_driver_environment_takes_references_from_the_targets_own(root: Path) -> None:
    application = load_manifest(write(root))
    expected = {"MODE": "fast", "APP_PATH": f"{root}/apps:{root}", "BROKER": "h:1"}
    assert driver_environment(application, {"BROKER": "h:1", "OTHER": "x"}, root) == expected
    with pytest.raises(MillraceError, match=r"takes BROKER from .* where it is not set"):
        driver_environment(application, {}, root)


def test_a_reference_that_may_point_to_nothing_is_left_out_where_it_does(root: Path) -> None:
    reference = {"secretKeyRef": {"name": "x", "key": "y", "optional": True}}
    application = load_manifest(write(root, driver={"env": [{"name": "PASSWORD", "valueFrom": reference}]}))
    assert driver_environment(application, {}, root) == {}
    assert driver_environment(application, {"PASSWORD": "p"}, root) == {"PASSWORD": "p"}


@pytest.mark.parametrize(
    ("text", "mib"), [("512m", 512), ("2g", 2048), ("1Gi", 1024), ("1048576k", 1024), ("1t", 1048576)]
)
def test_memory_sizes(text: str, mib: int) -> None:
    assert parse_memory(text) == mib


@pytest.mark.parametrize("text", ["", "12", "g", "1.5g", "-1g", "1x"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a memory size"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"type": "Scala"}, "only Python applications"),
        ({"mainApplicationFile": None}, "does not exist"),
        ({"executor": {"memory": "lots"}}, "'lots' is not a memory size"),
        ({"executor": {"instances": "many"}}, "many"),
        ({"restartPolicy": {"type": "Sometimes"}}, "must be one of Never, OnFailure, Always"),
        ({"driver": {"env": [{"value": "x"}]}}, "`name` is missing"),
    ],
)
def test_bad_manifests_are_one_sentence(root: Path, change: dict[str, object], complaint: str) -> None:
    path = write(root, **change)
    with pytest.raises(MillraceError, match=complaint) as caught:
        submit_command(load_manifest(path), root, None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("kind: Pod", "is not a SparkApplication"),
        ("[", "is not YAML"),
        ("kind: SparkApplication\napiVersion: v9", "apiVersion 'v9'"),
        ("kind: SparkApplication\napiVersion: sparkoperator.k8s.io/v1beta2", "`spec` is missing"),
    ],
)
def test_other_files_are_one_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(MillraceError, match=complaint) as caught:
        load_manifest(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_every_application_of_the_repository_can_be_run_here() -> None:
    root = load_settings({}).root
    manifests = sorted(root.glob("spark-apps/*/application.yaml"))
    assert manifests
    for path in manifests:
        application = load_manifest(path)
        assert application.name == path.parent.name
        assert submit_command(application, root, None)


@pytest.mark.parametrize(
    ("spec", "cores", "memory"),
    [
        ({"dynamicAllocation": {"enabled": True, "initialExecutors": 2, "maxExecutors": 9}}, 6, 512 + 2 * 1024),
        ({"dynamicAllocation": {"enabled": True, "minExecutors": 3, "initialExecutors": 1}}, 9, 512 + 3 * 1024),
        ({"dynamicAllocation": {"enabled": True, "maxExecutors": 9}}, 3, 512 + 1024),
        ({"dynamicAllocation": {"enabled": False, "initialExecutors": 5}}, 3, 512 + 1024),
    ],
)
def test_executors_at_the_start_are_those_of_one_machine(
    tmp_path: Path, spec: dict[str, Any], cores: int, memory: int
) -> None:
    application = load_manifest(write(tmp_path, executor={"cores": 3, "memory": "1g"}, **spec))
    assert (application.cores, application.memory_mib) == (cores, memory)
