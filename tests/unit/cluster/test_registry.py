"""Images as a folder, and the registry that hands them out."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.cluster.layout import Layout
from tests.cluster.local.registry import serving

NAME = "docker.io/made/up:1.0"
OTHER = "docker.io/made/other:1.0"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push(folder: Path, *layers: bytes) -> None:
    """Lay down an image as buildah does when it pushes to a folder."""
    folder.mkdir()
    configuration = repr(layers).encode()
    for each in (configuration, *layers):
        (folder / digest_of(each).removeprefix("sha256:")).write_bytes(each)
    parts = [{"digest": digest_of(each), "size": len(each)} for each in (configuration, *layers)]
    manifest = {"mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Two images that share a layer."""
    found = Layout(tmp_path / "layout")
    for name, above in ((NAME, b"above"), (OTHER, b"other")):
        place = tmp_path / above.decode()
        push(place, b"base", above)
        found.take(name, place)
    return found


@pytest.fixture
def registry(layout: Layout) -> Iterator[httpx.Client]:
    with serving(layout) as address, httpx.Client(base_url=address, trust_env=False) as client:
        yield client


def parts(layout: Layout) -> set[str]:
    return {f"sha256:{path.name}" for path in layout.path("sha256:").iterdir()}


def test_a_part_lies_in_the_layout_once_under_its_digest(layout: Layout) -> None:
    assert layout.names == {NAME, OTHER}
    assert len(parts(layout)) == 7  # two manifests, two configurations, three layers
    for digest in parts(layout):
        assert digest_of(layout.path(digest).read_bytes()) == digest


def test_an_image_in_the_place_of_another_leaves_nothing_of_it(layout: Layout, tmp_path: Path) -> None:
    push(tmp_path / "newer", b"base", b"newer")
    before = layout.configuration(NAME)
    layout.take(NAME, tmp_path / "newer")
    layout.sweep()
    assert layout.names == {NAME, OTHER}
    assert layout.configuration(NAME) not in ("", before)
    assert len(parts(layout)) == 7
    assert digest_of(b"newer") in parts(layout)
    assert digest_of(b"above") not in parts(layout)


def test_links_are_the_same_files(layout: Layout, tmp_path: Path) -> None:
    layout.link(tmp_path / "elsewhere")
    for digest in parts(layout):
        assert (tmp_path / "elsewhere" / digest.replace(":", "/")).samefile(layout.path(digest))


def test_an_image_can_be_pulled_by_its_name(registry: httpx.Client, layout: Layout) -> None:
    assert registry.get("/v2/").json() == {}
    for path in ("/v2/made/up/manifests/1.0", "/v2/made/up/manifests/1.0?ns=docker.io"):
        asked = registry.head(path)
        answer = registry.get(path)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, MANIFEST)
        assert digest_of(answer.content) == answer.headers["Docker-Content-Digest"]
        assert {name: asked.headers[name] for name in ("Content-Length", "Docker-Content-Digest")} == {
            name: answer.headers[name] for name in ("Content-Length", "Docker-Content-Digest")
        }
    by_digest = registry.get(f"/v2/made/up/manifests/{digest_of(answer.content)}")
    assert by_digest.content == answer.content
    for part in (answer.json()["config"], *answer.json()["layers"]):
        content = registry.get(f"/v2/made/up/blobs/{part['digest']}").content
        assert digest_of(content) == part["digest"]


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2/made/up/manifests/2.0",
        "/v2/made/nothing/manifests/1.0",
        "/v2/made/up/blobs/1.0",
        "/v2/made/up/blobs/../../index.json",
        f"/v2/made/up/blobs/{digest_of(b'nothing')}",
        f"/v2/made/nothing/blobs/{digest_of(b'base')}",
    ],
)
def test_what_is_not_there_is_not_found(registry: httpx.Client, path: str) -> None:
    answer = registry.get(path)
    assert answer.status_code == 404
    assert answer.json()["errors"][0]["code"] == "NAME_UNKNOWN"
    assert registry.head(path).status_code == 404
