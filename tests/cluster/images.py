"""Builds the images of a local cluster: ours, and those of the stand-ins. `python -m tests.cluster.images [NAME...]`.

All lie in one store (tests/images/builder.py), which `make test-images` shares where MILLRACE_IMAGE_STORE names it.
From there they go into one OCI layout, a folder in which a layer lies once however many images have it, and from the
layout into one archive for containerd.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedded import jars
from embedded.errors import UserError
from embedded.java import find_java
from embedded.paths import REPOSITORY
from embedded.settings import load_settings
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

NAME = "io.containerd.image.name"
REFERENCE = "org.opencontainers.image.ref.name"
"""Annotations of an image in an index: what containerd calls it, and what buildah does."""


def local_name(image: str) -> str:
    """The name of an image in the store."""
    return name_of(image) if image in IMAGES else f"localhost/millrace-tests/{image}:{VERSION}"


def cluster_name(image: str) -> str:
    """The name of an image in the cluster: what containerd makes of that in our manifests."""
    return local_name(image).replace("localhost/", "docker.io/", 1)


def store_folder() -> Path:
    """Where images are kept: MILLRACE_IMAGE_STORE, or else `images` in MILLRACE_HOME."""
    return Path(os.environ.get("MILLRACE_IMAGE_STORE") or load_settings().home / "images").absolute()


def archive(names: Sequence[str] = NAMES) -> Path:
    """Build images, and return the archive for `ctr images import` that holds them. Skips the test where they can't be.

    Raises:
        BuildError: an image can't be built.
    """
    if reason := why_not():
        pytest.skip(reason)
    store = Store(store_folder(), kept=True)
    build(store, names)
    layout = Layout(store)
    began = time.monotonic()
    layout.update(names)
    file = store.directory / ("images.tar" if set(names) == set(NAMES) else f"{'+'.join(names)}.tar")
    layout.archive(names, file)
    _report("archive", began)
    return file


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


@dataclass(frozen=True)
class Layout:
    """Images as an OCI layout in the store's folder: blobs by their digests, and an index that names the images."""

    store: Store

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.store.directory / "layout"

    def update(self, names: Sequence[str] = NAMES) -> None:
        """Write the images that are not in it as the store has them, and remove what no image in it needs."""
        for name in names:
            found = self._find(name)
            image = self.store.identity(local_name(name))
            if found is None or self._blob(found["digest"])["config"]["digest"] != f"sha256:{image}":
                self._put(name)
        needed = {digest for each in self._index() for digest in self._contents(each)}
        for path in self._path("sha256").iterdir():
            if f"sha256:{path.name}" not in needed:
                path.unlink()

    def _put(self, name: str) -> None:
        """Take an image from the store.

        By a folder in buildah's own format, since into a layout it writes compressed layers only, which takes a minute
        for all images.
        """
        with tempfile.TemporaryDirectory(prefix="image-", dir=self.store.directory) as place:
            self.store.run(
                "buildah", "push", "--quiet", "--disable-compression", local_name(name), f"dir:{place}", seconds=600
            )
            manifest = (Path(place) / "manifest.json").read_bytes()
            digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
            described = json.loads(manifest)
            self._path("sha256").mkdir(parents=True, exist_ok=True)
            for each in (described["config"], *described["layers"]):
                (Path(place) / each["digest"].partition(":")[2]).rename(self._path(each["digest"]))
        self._path(digest).write_bytes(manifest)
        entry = {"mediaType": described["mediaType"], "digest": digest, "size": len(manifest)}
        others = [each for each in self._index() if each["annotations"][NAME] != cluster_name(name)]
        entries = [*others, {**entry, "annotations": {NAME: cluster_name(name), REFERENCE: VERSION}}]
        (self.folder / "index.json").write_bytes(_index_of(entries))

    def archive(self, names: Sequence[str], file: Path) -> bool:
        """Write images as one archive, unless the file holds just these. Returns whether it was written."""
        # The index first, so that the file says at its start what it holds.
        start = _member("index.json", _index_of([self._entry(name) for name in names]))
        if file.exists():
            with file.open("rb") as present:
                if present.read(len(start)) == start:
                    return False
        incomplete = file.with_name(f"incomplete-{file.name}")
        with incomplete.open("wb") as to:
            to.write(start + _member("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'))
            for digest in sorted({digest for name in names for digest in self._contents(self._entry(name))}):
                with self._path(digest).open("rb") as content:
                    size = content.seek(0, os.SEEK_END)
                    content.seek(0)
                    to.write(_header(f"blobs/{digest.replace(':', '/')}", size))
                    # In larger pieces than tarfile's, which takes several times as long.
                    shutil.copyfileobj(content, to, 2**20)
                    to.write(_padding(size))
            to.write(bytes(2 * tarfile.BLOCKSIZE))
        incomplete.rename(file)
        return True

    def _path(self, digest: str) -> Path:
        return self.folder / "blobs" / digest.replace(":", "/")

    def _index(self) -> list[dict[str, Any]]:
        file = self.folder / "index.json"
        return json.loads(file.read_bytes())["manifests"] if file.exists() else []

    def _find(self, name: str) -> dict[str, Any] | None:
        found = [each for each in self._index() if each["annotations"][NAME] == cluster_name(name)]
        return found[0] if found else None

    def _entry(self, name: str) -> dict[str, Any]:
        found = self._find(name)
        if found is None:
            raise BuildError(f"{self.folder} has no image {name}: `python -m tests.cluster.images {name}` builds it")
        return found

    def _blob(self, digest: str) -> dict[str, Any]:
        return json.loads(self._path(digest).read_bytes())

    def _contents(self, entry: dict[str, Any]) -> list[str]:
        """The digests of everything that an image consists of."""
        manifest = self._blob(entry["digest"])
        return [entry["digest"], manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]


def _index_of(entries: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": entries}).encode()


def _member(name: str, content: bytes) -> bytes:
    return _header(name, len(content)) + content + _padding(len(content))


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf()


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


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
        sys.stdout.write(f"{archive(names)}\n")
    except UserError as error:
        sys.stderr.write(f"images: {error}\n")
        return error.exit_code
    except (BuildError, pytest.skip.Exception, pytest.fail.Exception) as error:
        sys.stderr.write(f"images: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
