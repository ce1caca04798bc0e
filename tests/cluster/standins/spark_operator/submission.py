"""How an application is submitted: the command line of spark-submit, in upstream's order, and its run.

Spark takes the last of several settings of one key: what the operator itself says wins over `sparkConf`.
"""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.cluster.standins.spark_operator import names
from tests.cluster.standins.spark_operator.names import DRIVER, EXECUTOR, driver_pod
from tests.cluster.standins.spark_operator.templates import (
    LOCAL_DISK,
    RefusedError,
    container_name,
    pod_template,
    refuse_what_is_left_out,
)

FOLDER = Path("/tmp/spark")
ALREADY_THERE = "code=409"
"""What Spark's client says of a pod that exists."""
QUICK_START = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""Java options of spark-submit alone, which runs for some seconds: upstream has none."""
OWN_SETTINGS = {
    # Spark's ten seconds are over before a node that is busy with a whole platform has loaded its client's classes.
    "spark.kubernetes.submission.requestTimeout": "120000",
    # Upstream's image submits with Spark 4.0, which makes no NetworkPolicy; its chart does not allow that either.
    "spark.kubernetes.driver.pod.excludedFeatureSteps": (
        "org.apache.spark.deploy.k8s.features.NetworkPolicyFeatureStep"
    ),
}
"""What upstream does not say to spark-submit; the application's `sparkConf` may say otherwise."""
_KUEUE = "kueue.x-k8s.io/"
_DEPENDENCIES = {
    "jars": "--jars",
    "packages": "--packages",
    "excludePackages": "--exclude-packages",
    "repositories": "--repositories",
    "pyFiles": "--py-files",
    "files": "--files",
    "archives": "--archives",
}
_TOKENS = {
    "GCPServiceAccount": ("GOOGLE_APPLICATION_CREDENTIALS", "key.json"),
    "HadoopDelegationToken": ("HADOOP_TOKEN_FILE_LOCATION", "hadoop.token"),
}
_VOLUME_OPTIONS = {
    "emptyDir": ("sizeLimit", "medium"),
    "hostPath": ("path", "type"),
    "nfs": ("path", "server", "readOnly"),
    "persistentVolumeClaim": ("claimName", "readOnly"),
}
_ALLOCATION = ("initialExecutors", "minExecutors", "maxExecutors")

Settings = Iterator[tuple[str, Any]]
log = logging.getLogger(__name__)


class SubmissionError(Exception):
    """The application could not be submitted; the text is what its status says."""


def master(environment: Mapping[str, str]) -> str:
    """Return the API server as every pod's environment names it, in Spark's words."""
    host, port = environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"]
    return f"k8s://https://[{host}]:{port}" if ":" in host else f"k8s://https://{host}:{port}"


def command(app: Mapping[str, Any], master: str, folder: Path) -> list[str]:
    """Return the arguments of spark-submit for an application whose status has the id of this submission.

    `folder` has the pod templates: `driver-pod-template.yaml` and `executor-pod-template.yaml`.
    """
    spec = app["spec"]
    result = ["--master", master, "--deploy-mode", spec["mode"]]
    if spec.get("mainClass"):
        result += ["--class", spec["mainClass"]]
    result += ["--name", app["metadata"]["name"]]
    for field, option in _DEPENDENCIES.items():
        if values := (spec.get("deps") or {}).get(field):
            result += [option, ",".join(values)]
    for key, value in _settings(app, folder):
        result += ["--conf", f"{key}={_text(value)}"]
    if spec.get("proxyUser"):
        result += ["--proxy-user", spec["proxyUser"]]
    if spec.get("mainApplicationFile"):
        result.append(spec["mainApplicationFile"])
    return [*result, *(spec.get("arguments") or ())]


def _settings(app: Mapping[str, Any], folder: Path) -> Settings:
    spec = app["spec"]
    yield from OWN_SETTINGS.items()
    yield "spark.kubernetes.namespace", app["metadata"]["namespace"]
    yield from _given(
        spec,
        {
            "image": "spark.kubernetes.container.image",
            "imagePullPolicy": "spark.kubernetes.container.image.pullPolicy",
        },
    )
    if spec.get("imagePullSecrets"):
        yield "spark.kubernetes.container.image.pullSecrets", ",".join(spec["imagePullSecrets"])
    yield from _given(
        spec,
        {
            "pythonVersion": "spark.kubernetes.pyspark.pythonVersion",
            "memoryOverheadFactor": "spark.kubernetes.memoryOverheadFactor",
        },
    )
    yield "spark.kubernetes.submission.waitAppCompletion", False
    for key, value in (spec.get("sparkConf") or {}).items():
        if key != "spark.kubernetes.driver.pod.name":
            yield key, value
    for key, value in (spec.get("hadoopConf") or {}).items():
        yield f"spark.hadoop.{key}", value
    for role in (DRIVER, EXECUTOR):
        yield f"spark.kubernetes.{role}.podTemplateFile", folder / f"{role}-pod-template.yaml"
        yield f"spark.kubernetes.{role}.podTemplateContainerName", container_name(role)
        if role == DRIVER:
            yield "spark.kubernetes.driver.pod.name", driver_pod(app)
        yield from _of_role(app, role)
    for key, value in (spec.get("nodeSelector") or {}).items():
        yield f"spark.kubernetes.node.selector.{key}", value
    yield from _allocation(spec.get("dynamicAllocation") or {})


def _of_role(app: Mapping[str, Any], role: str) -> Settings:
    spec, part, prefix = app["spec"], app["spec"][role], f"spark.kubernetes.{role}"
    yield f"{prefix}.label.{names.APP_NAME}", app["metadata"]["name"]
    yield f"{prefix}.label.{names.LAUNCHED}", True
    if not part.get("template"):
        yield f"{prefix}.label.{names.MUTATED}", True
    yield f"{prefix}.label.{names.SUBMISSION_ID}", app["status"]["submissionID"]
    if role == EXECUTOR:
        yield from _given(part, {"instances": "spark.executor.instances"})
    if image := part.get("image") or spec.get("image"):
        yield f"{prefix}.container.image", image
    yield from _given(
        part,
        {
            "cores": f"spark.{role}.cores",
            "coreRequest": f"{prefix}.request.cores",
            "coreLimit": f"{prefix}.limit.cores",
            "memory": f"spark.{role}.memory",
            "memoryOverhead": f"spark.{role}.memoryOverhead",
            "serviceAccount": f"spark.kubernetes.authenticate.{role}.serviceAccountName",
            "javaOptions": f"spark.{role}.extraJavaOptions",
            "kubernetesMaster": "spark.kubernetes.driver.master",
            "deleteOnTermination": "spark.kubernetes.executor.deleteOnTermination",
        },
    )
    labels = {k: v for k, v in (app["metadata"].get("labels") or {}).items() if not k.startswith(_KUEUE)}
    for key, value in {**labels, **(part.get("labels") or {})}.items():
        yield f"{prefix}.label.{key}", value
    yield from _each(part, "annotations", f"{prefix}.annotation")
    yield from _each(part, "serviceLabels", f"{prefix}.service.label")
    yield from _each(part, "serviceAnnotations", f"{prefix}.service.annotation")
    for key, secret in (part.get("envSecretKeyRefs") or {}).items():
        yield f"{prefix}.secretKeyRef.{key}", f"{secret['name']}:{secret['key']}"
    environment = "spark.kubernetes.driverEnv" if role == DRIVER else "spark.executorEnv"
    yield from _each(part, "envVars", environment)
    for secret in part.get("secrets") or ():
        yield f"{prefix}.secrets.{secret['name']}", secret["path"]
        if secret.get("secretType") in _TOKENS:
            variable, file = _TOKENS[secret["secretType"]]
            yield f"{environment}.{variable}", f"{secret['path'].rstrip('/')}/{file}"
    yield from _local_disks(spec, part, prefix)


def _local_disks(spec: Mapping[str, Any], part: Mapping[str, Any], prefix: str) -> Settings:
    volumes = {each["name"]: each for each in spec.get("volumes") or ()}
    for mount in part.get("volumeMounts") or ():
        name = mount["name"]
        if not name.startswith(LOCAL_DISK):
            continue
        if name not in volumes:
            raise SubmissionError(f"failed to build spark-submit arguments: volume {name} not found")
        kind = next((kind for kind in _VOLUME_OPTIONS if kind in volumes[name]), None)
        if kind is None:
            raise SubmissionError("failed to build spark-submit arguments: unsupported volume type")
        key = f"{prefix}.volumes.{kind}.{name}"
        yield f"{key}.mount.path", mount["mountPath"]
        yield from _given(mount, {"subPath": f"{key}.mount.subPath", "readOnly": f"{key}.mount.readOnly"})
        options = volumes[name][kind] or {}
        yield from _given(options, {option: f"{key}.options.{option}" for option in _VOLUME_OPTIONS[kind]})


def _allocation(allocation: Mapping[str, Any]) -> Settings:
    if not allocation.get("enabled"):
        return
    prefix = "spark.dynamicAllocation"
    yield f"{prefix}.enabled", True
    yield from _given(allocation, {field: f"{prefix}.{field}" for field in _ALLOCATION})
    yield f"{prefix}.shuffleTracking.enabled", allocation.get("shuffleTrackingEnabled", True)
    yield from _given(allocation, {"shuffleTrackingTimeout": f"{prefix}.shuffleTracking.timeout"})


def _given(values: Mapping[str, Any], keys: Mapping[str, str]) -> Settings:
    for field, key in keys.items():
        if values.get(field) not in (None, ""):
            yield key, values[field]


def _each(part: Mapping[str, Any], field: str, prefix: str) -> Settings:
    for key, value in (part.get(field) or {}).items():
        yield f"{prefix}.{key}", value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# The run

Run = Callable[[list[str]], "subprocess.CompletedProcess[str]"]


def run_spark_submit(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run spark-submit to its end."""
    home = os.environ.get("SPARK_HOME")
    if not home:
        raise SubmissionError("failed to run spark-submit: env SPARK_HOME is not specified")
    return subprocess.run(
        [f"{home}/bin/spark-submit", *arguments],
        env=_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return what spark-submit runs with: it would pass the Pythons of this image on to the driver's pod."""
    kept = {key: value for key, value in own.items() if key not in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")}
    return {"SPARK_SUBMIT_OPTS": QUICK_START, **kept}


def submit(app: Mapping[str, Any], master: str, run: Run = run_spark_submit, folder: Path = FOLDER) -> None:
    """Submit an application whose status has the id of this submission. Raises SubmissionError."""
    place = folder / app["status"]["submissionID"]
    try:
        refuse_what_is_left_out(app)
        place.mkdir(parents=True)
        for role in (DRIVER, EXECUTOR):
            # JSON is YAML.
            (place / f"{role}-pod-template.yaml").write_text(json.dumps(pod_template(app, role)))
        result = run(command(app, master, place))
    except (RefusedError, SubmissionError, OSError) as error:
        raise SubmissionError(f"failed to submit spark application: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if result.returncode:
        said = result.stderr.strip()
        log.warning("spark-submit of %s ended with %s: %s", app["metadata"]["name"], result.returncode, said)
        if ALREADY_THERE in said:
            why = "driver pod already exist"
        else:
            why = f"failed to run spark-submit: {said or f'exit status {result.returncode}'}"
        raise SubmissionError(f"failed to submit spark application: failed to run spark-submit: {why}")
