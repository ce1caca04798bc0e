"""What a new pipeline consists of: its names, its files, and the lists that it is added to. Writes nothing."""

import json
import keyword
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from ingest.compatibility import fingerprint
from new_pipeline.errors import PipelineError

TEMPLATE = Path(__file__).parent / "template"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
SHORTEST, LONGEST = 3, 30
"""Of a name. The longest that is made of it is a label in Kubernetes: 63 characters."""
TOPICS = ("contracts/topics.yaml", "charts/millrace/files/topics.yaml")
RELEASED = "contracts/released.json"


@dataclass(frozen=True)
class Layout:
    """A pipeline, not yet written."""

    name: str
    new: dict[str, str]
    """Path, from the repository's root, to the content of a file that isn't there yet."""
    changed: dict[str, str]
    """The same of files that are there."""


def plan(name: str, root: Path) -> Layout:
    """Return the files of a pipeline. Raises PipelineError if the name can't be one, or something of it is there."""
    check_name(name, root)
    app = name.replace("_", "-")

    def filled(file: str) -> str:
        return (TEMPLATE / file).read_text(encoding="utf-8").replace("@@name@@", name).replace("@@app@@", app)

    new = {
        f"contracts/{app}/v1.json": filled("v1.json"),
        f"contracts/{app}/samples.jsonl": filled("samples.jsonl"),
        f"dags/{name}.py": filled("dag.py.txt"),
        f"dags/millrace/{name}.py": filled("verification.py.txt"),
        f"spark-apps/{app}/app.py": filled("app.py.txt"),
        f"spark-apps/{app}/application.yaml": filled("application.yaml"),
        f"spark-apps/{app}/settings.yaml": filled("settings.yaml"),
        f"spark-apps/{app}/README.md": filled("README.md.txt"),
        f"tests/dags/test_{name}.py": filled("test_dag.py.txt"),
        f"tests/unit/apps/test_{name}.py": filled("test_app.py.txt"),
    }
    folders = [f"contracts/{app}", f"spark-apps/{app}"]
    if taken := [path for path in [*folders, *new] if (root / path).exists()]:
        raise PipelineError(f"{name} can't be laid down, because {taken[0]} is there already: choose another name.")
    changed = {path: _with_topics(root / path, filled("topics.yaml")) for path in TOPICS}
    changed[RELEASED] = _with_contract(root / RELEASED, f"{app}/v1", json.loads(new[f"contracts/{app}/v1.json"]))
    return Layout(name, new, changed)


def check_name(name: str, root: Path) -> None:
    """Raise PipelineError if a pipeline can't have that name."""
    if not NAME.fullmatch(name):
        raise PipelineError(
            f"{name!r} can't be a pipeline's name: use lower case letters, digits and single underscores between them, "
            "with a letter first, such as my_pipeline."
        )
    if not SHORTEST <= len(name) <= LONGEST:
        raise PipelineError(f"{name!r} has {len(name)} characters, and must have from {SHORTEST} to {LONGEST}.")
    # A DAG file is a module on the same path as the library and everything that it imports.
    known = set(sys.stdlib_module_names) | {"airflow", "ingest", "embedded", "millrace", "streamkit", "tests"}
    if keyword.iskeyword(name) or name in known or (root / name).exists():
        raise PipelineError(f"{name!r} is the name of a Python module that is needed: choose another name.")


def _with_topics(path: Path, entries: str) -> str:
    text = _read(path)
    try:
        known = yaml.safe_load(text)["topics"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise PipelineError(f"{path} does not list topics ({type(error).__name__}): put it in order first.") from None
    for topic in yaml.safe_load("topics:\n" + entries)["topics"]:
        if topic in known:
            raise PipelineError(f"The topic {topic} is in {path} already: choose another name.")
    return text.rstrip("\n") + "\n" + entries


def _with_contract(path: Path, version: str, schema: dict) -> str:
    try:
        known = json.loads(_read(path))
    except ValueError as error:
        raise PipelineError(f"{path} is not JSON ({error}): put it in order first.") from None
    return json.dumps({**known, version: fingerprint(schema)}, indent=2, sort_keys=True) + "\n"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = f"{path} can't be read ({error.strerror})"
        raise PipelineError(f"{reason}: run this in the repository's root, or name it with --root.") from None
