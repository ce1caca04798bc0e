"""The Dockerfiles keep the rules of images/README.md: pinned once, non-root, labelled, nothing in them that builds."""

import fnmatch
import re

import pytest

from embedded.paths import REPOSITORY
from embedded.versions import versions
from tests.images.dockerfiles import IMAGES, VERSION, read


@pytest.mark.parametrize("image", IMAGES)
def test_defaults_of_build_arguments_are_the_pins(image):
    base = versions()["base_images"]
    expected = {
        "BASE": {f"docker.io/library/debian:{base['debian']}"},
        "PYTHON": {str(base["python"])},
        "DEBIAN_FRONTEND": {"noninteractive"},
        "VERSION": {VERSION},
        "REVISION": {"unknown"},
        "IMAGE_SOURCE": {"unknown"},
    }
    if image == "spark":
        expected["JAVA"] = {str(base["java"])}
    assert read(image).arguments() == expected


@pytest.mark.parametrize("image", IMAGES)
def test_every_stage_comes_from_the_base_or_from_a_stage_before(image):
    known = {"${BASE}"}
    for stage in read(image).stages:
        parent, _, name = stage[0].value.partition(" AS ")
        assert parent in known
        known.add(name)


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_names_a_registry(image):
    """Mirrors come with --build-arg, and are nowhere by default."""
    text = (REPOSITORY / "images" / image / "Dockerfile").read_text()
    addresses = set(re.findall(r"https?://[^\s\"]+", text))
    assert addresses <= {"https://github.com/millrace/millrace"}
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        assert re.search(rf"^ARG {name}$", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("image", "user"), [("airflow", "50000:0"), ("spark", "10001:10001"), ("ingest", "10001:10001")]
)
def test_user_is_numeric_and_not_root(image, user):
    """A number, because Kubernetes' runAsNonRoot can't tell who a name is."""
    assert read(image).last("USER") == user
    after = [each.name for each in read(image).final]
    after = after[len(after) - after[::-1].index("USER") :]
    assert set(after) <= {"ENTRYPOINT", "CMD"}


@pytest.mark.parametrize("image", IMAGES)
def test_labels(image):
    labels = dict(re.findall(r"org\.opencontainers\.image\.([a-z]+)=\"([^\"]*)\"", read(image).last("LABEL")))
    assert labels.keys() == {"title", "description", "version", "revision", "source", "licenses"}
    assert labels["title"] == f"millrace/{image}"
    assert labels["version"] == "${VERSION}"
    assert labels["revision"] == "${REVISION}"
    assert labels["source"] == "${IMAGE_SOURCE}"
    assert labels["licenses"] == "Apache-2.0"


@pytest.mark.parametrize("image", IMAGES)
def test_packages_are_those_of_the_lock_with_hashes(image):
    stages = read(image).stages
    installs = [each.value for stage in stages for each in stage if re.search(r"pip (sync|install)", each.value)]
    assert any(f"requirements/{image}.lock" in each for each in installs)
    for each in installs:
        assert each.count("--require-hashes") == len(re.findall(r"pip (?:sync|install)", each))
    assert not any(re.search(r"\bpip\b|\buv\b", each.value) for each in stages[-1])


def test_all_images_share_what_installs_their_packages():
    """The same words up to the image's own lock, so that the builder's cache serves all three."""
    starts = []
    for image in IMAGES:
        stage = read(image).stages[0]
        own = next(number for number, each in enumerate(stage) if f"requirements/{image}.lock" in each.value)
        starts.append(stage[:own])
    assert starts[0] == starts[1] == starts[2]


@pytest.mark.parametrize("image", IMAGES)
def test_copied_paths_exist_and_are_sent_to_the_builder(image):
    for stage in read(image).stages:
        for instruction in stage:
            if instruction.name == "COPY" and "--from" not in instruction.value:
                for source in instruction.value.split()[:-1]:
                    assert (REPOSITORY / source).exists(), source
                    assert not ignored(source), f"{source} is left out by .dockerignore"


@pytest.mark.parametrize(
    "path",
    [
        ".venv/bin/python",
        ".git/config",
        ".millrace/jars/spark/x.jar",
        ".env",
        "dags/.env",
        "dags/production.env",
        "k8s/environments/production/secrets.yaml",
        "secrets.yaml",
        "ingest/client.key",
        "dags/ca.pem",
        "images/spark/.netrc",
        "tests/images/conftest.py",
        "ingest/__pycache__/replay.cpython-313.pyc",
        "benchmarks/RESULTS.md",
    ],
)
def test_dockerignore_keeps_out(path):
    assert ignored(path)


@pytest.mark.parametrize("path", ["dags/streaming_pipeline.py", "requirements/spark.lock", "contracts/topics.yaml"])
def test_dockerignore_lets_in(path):
    assert not ignored(path)


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves a path out: the last pattern that matches it, or a folder above it, decides."""
    parts = path.split("/")
    names = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    result = False
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            keep = pattern.startswith("!")
            if any(_matches(name, pattern.removeprefix("!")) for name in names):
                result = not keep
    return result


def _matches(name: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(name.rpartition("/")[2], pattern.removeprefix("**/"))
    return "/" not in name and fnmatch.fnmatchcase(name, pattern) if pattern == "*" else name == pattern
