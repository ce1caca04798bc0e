"""Reads a SparkApplication manifest, and maps it to one local `spark-submit`.

The manifest is the same that a cluster gets. On one machine there is one JVM: the executors' cores become the
task slots of `local[N]`, and the memory of driver and executors together becomes its heap. Executors that are
allocated dynamically are those that the application begins with: one machine has no more to give later.
"""

import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from millrace.errors import MillraceError

_IMAGE_ROOT = re.compile(r"(local://)?/opt/millrace(?=[/:]|$)")
"""Where the Spark image holds what is the repository's root on a developer's machine."""
API_VERSION = "sparkoperator.k8s.io/v1beta2"
RESTART_POLICIES = ("Never", "OnFailure", "Always")
DEFAULT_MEMORY = "1g"
DEFAULT_RETRY_INTERVAL = 5
_MEMORY_UNITS = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024 * 1024}


@dataclass(frozen=True)
class RestartPolicy:
    """When a driver that has ended is started again."""

    type: str = "Never"
    retries: int = 0
    """Restarts after failures, for `OnFailure`. `Always` has no limit."""
    interval: float = DEFAULT_RETRY_INTERVAL
    """Seconds between a driver's end and the next start."""


@dataclass(frozen=True)
class SparkApplication:
    """The part of a SparkApplication that one machine can honour."""

    name: str
    main_file: str
    arguments: tuple[str, ...] = ()
    spark_conf: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str | None] = field(default_factory=dict)
    """The driver's variables; None stands for a reference to a secret, a config map or a field."""
    optional: frozenset[str] = frozenset()
    """Variables whose reference may point to nothing."""
    cores: int = 1
    """Task slots: executors at the start times cores of each."""
    memory_mib: int = 1024
    """Heap of the one JVM: driver plus all executors."""
    restart: RestartPolicy = field(default_factory=RestartPolicy)


def load_manifest(path: Path) -> SparkApplication:
    """Read what one machine needs of the SparkApplication in `path`.

    Raises MillraceError if it is missing, isn't one, or lacks a needed field.
    """
    document = load_document(path)
    try:
        return _parse(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
        raise MillraceError(f"{path} cannot be run: {problem}; correct the manifest.") from error


def load_document(path: Path) -> dict[str, Any]:
    """Read the SparkApplication in `path` as it stands there. Raises MillraceError if it is missing or isn't one."""
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise MillraceError(f"Cannot read the manifest {path}: {error.strerror}; check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise MillraceError(f"{path} is not YAML ({' '.join(str(error).split())}): correct it.") from error
    if not isinstance(document, dict) or document.get("kind") != "SparkApplication":
        raise MillraceError(f"{path} is not a SparkApplication: its `kind` must be that, in one YAML document.")
    if document.get("apiVersion") != API_VERSION:
        raise MillraceError(f"{path} has apiVersion {document.get('apiVersion')!r}: write {API_VERSION}.")
    return document


def _parse(document: Mapping[str, Any]) -> SparkApplication:
    spec = document["spec"]
    if spec.get("type") != "Python":
        raise ValueError(f"spec.type is {spec.get('type')!r}, only Python applications are run")
    driver, executor = spec.get("driver") or {}, spec.get("executor") or {}
    instances = _first_executors(spec)
    memory = parse_memory(driver.get("memory", DEFAULT_MEMORY))
    memory += instances * parse_memory(executor.get("memory", DEFAULT_MEMORY))
    return SparkApplication(
        name=str(document["metadata"]["name"]),
        main_file=str(spec["mainApplicationFile"]),
        arguments=tuple(str(argument) for argument in spec.get("arguments") or ()),
        spark_conf={str(key): str(value) for key, value in (spec.get("sparkConf") or {}).items()},
        env=_environment(driver),
        optional=frozenset(entry["name"] for entry in driver.get("env") or () if _is_optional(entry)),
        cores=max(1, instances * int(executor.get("cores", 1))),
        memory_mib=memory,
        restart=_restart_policy(spec.get("restartPolicy") or {}),
    )


def _first_executors(spec: Mapping[str, Any]) -> int:
    """How many executors the application begins with, as Spark counts them: the largest of those named."""
    named = [int((spec.get("executor") or {}).get("instances") or 0)]
    allocation = spec.get("dynamicAllocation") or {}
    if allocation.get("enabled"):
        named += [int(allocation.get(key) or 0) for key in ("initialExecutors", "minExecutors")]
    return max(named) or 1


def _environment(driver: Mapping[str, Any]) -> dict[str, str | None]:
    env: dict[str, str | None] = {str(key): str(value) for key, value in (driver.get("envVars") or {}).items()}
    for entry in driver.get("env") or ():
        env[entry["name"]] = None if "valueFrom" in entry else str(entry.get("value", ""))
    return env


def _is_optional(entry: Mapping[str, Any]) -> bool:
    return any(reference.get("optional") is True for reference in (entry.get("valueFrom") or {}).values())


def _restart_policy(policy: Mapping[str, Any]) -> RestartPolicy:
    kind = policy.get("type", "Never")
    if kind not in RESTART_POLICIES:
        raise ValueError(f"restartPolicy.type is {kind!r}, it must be one of {', '.join(RESTART_POLICIES)}")
    interval = policy.get("onFailureRetryInterval")
    return RestartPolicy(
        type=kind,
        retries=int(policy.get("onFailureRetries") or 0),
        interval=float(DEFAULT_RETRY_INTERVAL if interval is None else interval),
    )


def parse_memory(text: str) -> int:
    """Return the MiB that a JVM memory string such as `512m`, `2g` or `1Gi` stands for. Raises ValueError."""
    match = re.fullmatch(r"(\d+)([kmgt])(?:i?b?)", str(text).strip().lower())
    if not match:
        raise ValueError(f"{text!r} is not a memory size such as 512m or 2g")
    return int(int(match[1]) * _MEMORY_UNITS[match[2]])


def local_path(text: str, root: Path) -> str:
    """Map each path inside the Spark image that `text` names to the same file under `root`."""
    return _IMAGE_ROOT.sub(lambda _: str(root), text)


def submit_command(
    application: SparkApplication, root: Path, jars: Path | None, arguments: Sequence[str] = ()
) -> list[str]:
    """Return the `spark-submit` command line that runs `application` in one local JVM.

    `root` stands for the image's /opt/millrace; `jars` is a folder put on the class path; `arguments` are
    appended to the manifest's own. Raises MillraceError if the main file or pyspark isn't there.
    """
    main_file = Path(local_path(application.main_file, root))
    if not main_file.is_file():
        raise MillraceError(f"The main file of {application.name}, {main_file}, does not exist: correct its manifest.")
    # Failed tasks are tried 4 times in all, as a cluster does by default; plain local[N] would try once.
    command = [str(spark_home() / "bin" / "spark-submit"), "--master", f"local[{application.cores},4]"]
    command += ["--name", application.name, "--driver-memory", f"{application.memory_mib}m"]
    conf = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        # Nobody looks at it here, and it would take a port; in a cluster it has the executors' metrics.
        "spark.ui.enabled": "false",
        # A cluster's executors have these settings of their own; here the one JVM takes them over.
        **{key: value for key, value in application.spark_conf.items() if not key.startswith("spark.kubernetes.")},
    }
    if jars is not None:
        # On the class path instead of --jars, which would copy every jar into a temporary folder at each
        # start.
        own = conf.get("spark.driver.extraClassPath")
        conf["spark.driver.extraClassPath"] = f"{own}:{jars}/*" if own else f"{jars}/*"
    for key, value in conf.items():
        command += ["--conf", f"{key}={local_path(value, root)}"]
    own_arguments = (local_path(argument, root) for argument in (*application.arguments, *arguments))
    return [*command, str(main_file), *own_arguments]


def driver_environment(application: SparkApplication, environ: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return the driver's own variables, with each reference taken from the same name in `environ`.

    Raises MillraceError if such a name isn't set there.
    """
    result = {}
    for name, value in application.env.items():
        if value is not None:
            result[name] = local_path(value, root)
        elif name in environ:
            result[name] = environ[name]
        elif name not in application.optional:
            raise MillraceError(
                f"The manifest of {application.name} takes {name} from a secret or config map, and the "
                "embedded "
                f"target takes it from its own environment, where it is not set: set {name}."
            )
    return result


def spark_home() -> Path:
    """Return the installed pyspark's folder. Raises MillraceError if pyspark isn't installed."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise MillraceError("pyspark is not installed in this Python environment: run `make setup`.")
    return Path(spec.origin).parent
