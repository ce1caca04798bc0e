"""Images as a folder of the OCI's image layout: an index that names them, and each of their parts once, by its digest.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = "io.containerd.image.name"
"""Annotation of an image in the index: what it is called in the cluster, docker.io/<repository>:<tag>."""


@dataclass(frozen=True)
class Layout:
    """A layout in a folder, which need not be there yet."""

    folder: Path

    @property
    def names(self) -> set[str]:
        """What the images are called."""
        return {each["annotations"][NAME] for each in self._index()}

    def find(self, name: str) -> dict[str, Any] | None:
        """The descriptor of an image's manifest; None if there is no such image."""
        return next((each for each in self._index() if each["annotations"][NAME] == name), None)

    def path(self, digest: str) -> Path:
        """Where the part of an image with a digest (`sha256:...`) is, if it is there."""
        return self.folder / "blobs" / digest.replace(":", "/")

    def configuration(self, name: str) -> str:
        """The digest of an image's configuration; empty if there is no such image."""
        found = self.find(name)
        return self._manifest(found)["config"]["digest"] if found else ""

    def take(self, name: str, pushed: Path) -> None:
        """Take an image that buildah has pushed to `dir:<folder>`, its layers not compressed, out of that folder.

        An image that had the name before has it no longer.
        """
        manifest = (pushed / "manifest.json").read_bytes()
        digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
        described = json.loads(manifest)
        self.path(digest).parent.mkdir(parents=True, exist_ok=True)
        for each in (described["config"], *described["layers"]):
            (pushed / each["digest"].partition(":")[2]).rename(self.path(each["digest"]))
        self.path(digest).write_bytes(manifest)
        entry = {"mediaType": described["mediaType"], "digest": digest, "size": len(manifest)}
        others = [each for each in self._index() if each["annotations"][NAME] != name]
        self._write_index([*others, {**entry, "annotations": {NAME: name}}])

    def sweep(self) -> None:
        """Remove the parts that no image has."""
        needed = set(self._digests())
        for path in self.path("sha256:").iterdir():
            if f"sha256:{path.name}" not in needed:
                path.unlink()

    def link(self, to: Path) -> None:
        """Give each part of each image another name, in folders `sha256` in `to`; copy it to another file system."""
        for digest in set(self._digests()):
            place = to / digest.replace(":", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.path(digest), place)
            except OSError:
                shutil.copy(self.path(digest), place)

    def _digests(self) -> Iterator[str]:
        for entry in self._index():
            manifest = self._manifest(entry)
            yield from (entry["digest"], manifest["config"]["digest"], *(each["digest"] for each in manifest["layers"]))

    def _manifest(self, entry: dict[str, Any]) -> dict[str, Any]:
        return json.loads(self.path(entry["digest"]).read_bytes())

    def _index(self) -> list[dict[str, Any]]:
        file = self.folder / "index.json"
        return json.loads(file.read_bytes())["manifests"] if file.exists() else []

    def _write_index(self, entries: list[dict[str, Any]]) -> None:
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        # Whole or not at all: what the index does not name would be swept away.
        incomplete = self.folder / "incomplete-index.json"
        incomplete.write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))
        incomplete.rename(self.folder / "index.json")
