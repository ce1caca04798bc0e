"""Builds the images of a local cluster: ours, and those of the stand-ins. `python -m tests.cluster.images [NAME...]`.

All lie in one store (tests/images/builder.py), which `make test-images` shares where MILLRACE_IMAGE_STORE names it.
From there they go into a folder from which the node takes them (layout.py).
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from embedded import jars
from embedded.errors import UserError
from embedded.java import find_java
from embedded.paths import REPOSITORY
from embedded.settings import load_settings
from tests.cluster.layout import Layout
from tests.go_tools import go_tool
from tests.images.builder import BUILD_SECONDS, BuildError, Store, digest_of, why_not
from tests.images.dockerfiles import IMAGES, VERSION, name_of
from tests.kubernetes.programs import program

STANDINS = Path(__file__).parent / "standins"
DOCKERFILES = STANDINS / "images"
MIRRORS = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")
"""Build arguments that are taken from the environment, as images/build.sh does."""

PROGRAMS = {
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
    "prometheus-operator": "prometheus-operator",
    "prometheus-config-reloader": "prometheus-config-reloader",
    "statsd-exporter": "statsd_exporter",
    "versitygw": "versitygw",
    "coredns": "coredns",
}
"""Images that hold one program, and what the program is called."""

OPERATORS = ("operators", "postgresql-exporter")
NAMES = (*IMAGES, *OPERATORS, "postgresql", *PROGRAMS, "pause")
"""All images, each after those that it is made from."""


def local_name(image: str) -> str:
    """The name of an image in the store."""
    return name_of(image) if image in IMAGES else f"localhost/millrace-tests/{image}:{VERSION}"


def cluster_name(image: str) -> str:
    """The name of an image in the cluster: what containerd makes of that in our manifests."""
    return local_name(image).replace("localhost/", "docker.io/", 1)


def store_folder() -> Path:
    """Where images are kept: MILLRACE_IMAGE_STORE, or else `images` in MILLRACE_HOME."""
    return Path(os.environ.get("MILLRACE_IMAGE_STORE") or load_settings().home / "images").absolute()


def made(names: Sequence[str] = NAMES) -> Layout:
    """Build images, and return the layout that holds them. Skips the test where they can't be built.

    Raises:
        BuildError: an image can't be built.
    """
    if reason := why_not():
        pytest.skip(reason)
    store = Store(store_folder(), kept=True)
    build(store, names)
    began = time.monotonic()
    layout = Layout(store.directory / "layout")
    put(store, layout, names)
    _report("layout", began)
    return layout


def put(store: Store, layout: Layout, names: Sequence[str]) -> None:
    """Put images of the store that are not in the layout into it, under the cluster's names."""
    for name in names:
        if layout.configuration(cluster_name(name)) == f"sha256:{store.identity(local_name(name))}":
            continue
        # Through a folder in buildah's own format, since into a layout it writes compressed layers only, which takes a
        # minute for all images.
        with tempfile.TemporaryDirectory(prefix="image-", dir=store.directory) as place:
            store.run(
                "buildah", "push", "--quiet", "--disable-compression", local_name(name), f"dir:{place}", seconds=600
            )
            layout.take(cluster_name(name), Path(place))
    layout.sweep()


def build(store: Store, names: Sequence[str] = NAMES) -> None:
    """Build images, and say of each how long it took. A layer whose ingredients are unchanged is not built again.

    Raises:
        BuildError: an image can't be built.
    """
    wanted = set(names)
    if wanted & set(OPERATORS):
        wanted.add("spark")
    began = time.monotonic()
    store.make_base()
    _report("base", began)
    for name in filter(wanted.__contains__, NAMES):
        began = time.monotonic()
        if name in IMAGES:
            store.build(name)
        else:
            _build_stand_in(store, name)
        _report(name, began)


def _report(what: str, began: float) -> None:
    sys.stdout.write(f"{what:28} {time.monotonic() - began:6.1f} s\n")
    sys.stdout.flush()


def _build_stand_in(store: Store, name: str) -> None:
    folder = "operators" if name in OPERATORS else "postgresql" if name == "postgresql" else "programs"
    dockerfile = DOCKERFILES / folder / "Dockerfile"
    arguments = [f"{mirror}={os.environ[mirror]}" for mirror in MIRRORS if os.environ.get(mirror)]
    parent = ""
    if folder == "operators":
        arguments.append(f"SPARK={name_of('spark')}")
        parent = store.identity(name_of("spark"))
    options = [part for argument in arguments for part in ("--build-arg", argument)]
    if folder != "postgresql":
        options += ["--target", name]
    with tempfile.TemporaryDirectory(prefix="context-", dir=store.directory) as place:
        context = Path(place)
        _fill(context, name)
        ingredients = digest_of([context, dockerfile], parent, *options)
        options += [f"--layers={str(store.kept).lower()}", "--file", str(dockerfile), "--tag", local_name(name)]
        command = ["buildah", "bud", *options, place]
        store.make(local_name(name), ingredients, lambda: store.run(*command, seconds=BUILD_SECONDS))


def _fill(context: Path, name: str) -> None:
    """Put what a Dockerfile copies into a folder."""
    if name in OPERATORS:
        # Not the stand-ins' charts, whose changes must not change the image.
        left_out = {str(STANDINS): {"charts", "images", "values"}}
        shutil.copytree(
            STANDINS,
            context / "tests" / "cluster" / "standins",
            ignore=lambda folder, names: {"__pycache__", "README.md", *left_out.get(folder, ())} & set(names),
        )
        shutil.copy(REPOSITORY / "tests" / "certificates.py", context / "tests")
        sets = jars.fetch(find_java(), load_settings().jars, names=("kafka", "metrics"))
        for name_of_set, folder in (("kafka", "libs"), ("metrics", "reporter")):
            shutil.copytree(sets[name_of_set], context / "kafka" / folder, copy_function=_link)
        (context / "requirements").mkdir()
        for lock in ("tools.lock", "standins.lock"):
            shutil.copy(REPOSITORY / "requirements" / lock, context / "requirements")
    elif name == "postgresql":
        shutil.copy(DOCKERFILES / name / "entrypoint.sh", context)
    elif name in PROGRAMS:
        file = PROGRAMS[name]
        _link(program(file) if file == "coredns" else go_tool(file), context / file)


def _link(source: Path | str, to: Path | str) -> None:
    """Give a large file another name; copy it to another file system."""
    try:
        os.link(Path(source).resolve(), to)
    except OSError:
        shutil.copy(source, to)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build images and hand them on, as the command line says. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.images", description="Build a local cluster's images."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    options = parser.parse_args(arguments)
    names = options.names or NAMES
    try:
        if unknown := set(names) - set(NAMES):
            raise UserError(f"there is no image {sorted(unknown)[0]}: take of {', '.join(NAMES)}", 2)
        sys.stdout.write(f"{made(names).folder}\n")
    except UserError as error:
        sys.stderr.write(f"images: {error}\n")
        return error.exit_code
    except (BuildError, pytest.skip.Exception, pytest.fail.Exception) as error:
        sys.stderr.write(f"images: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
