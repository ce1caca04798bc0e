"""What the builder of images takes for unchanged."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.images.builder import Store, base_name, digest_of


@dataclass
class Imagined(Store):
    """A store whose images are only names."""

    images: dict[str, str] = field(default_factory=dict)
    built: int = 0

    def has(self, name: str) -> bool:
        return name in self.images

    def identity(self, name: str) -> str:
        return self.images.get(name, "")

    def build_once(self, ingredients: str = "some") -> int:
        """Make an image; return how many were built before and now."""

        def build() -> None:
            self.built += 1
            self.images["image"] = f"number {self.built}"

        self.make("image", ingredients, build)
        return self.built


@pytest.fixture
def kept(tmp_path: Path) -> Imagined:
    return Imagined(tmp_path / "store", kept=True, images={base_name(): "base"})


def test_what_is_unchanged_is_built_once(kept: Imagined) -> None:
    assert [kept.build_once(), kept.build_once()] == [1, 1]
    again = Imagined(kept.directory, kept=True, images=kept.images, built=1)
    assert again.build_once() == 1


@pytest.mark.parametrize("change", ["ingredients", "base", "other", "gone"])
def test_any_change_builds_again(kept: Imagined, change: str) -> None:
    kept.build_once()
    match change:
        case "base":
            kept.images[base_name()] = "newer"
        case "other":
            kept.images["image"] = "built by hand"
        case "gone":
            del kept.images["image"]
    assert kept.build_once("other" if change == "ingredients" else "some") == 2


def test_a_store_that_does_not_stay_builds_always(tmp_path: Path) -> None:
    store = Imagined(tmp_path / "store")
    assert [store.build_once(), store.build_once()] == [1, 2]


def test_a_failed_build_is_not_taken_for_done(kept: Imagined) -> None:
    def fail() -> None:
        raise RuntimeError

    kept.build_once()
    with pytest.raises(RuntimeError):
        kept.make("image", "changed", fail)
    assert kept.build_once("changed") == 2


def test_a_digest_changes_with_content_name_and_mode(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "script"
    file.parent.mkdir()
    file.write_text("text")
    file.chmod(0o644)
    first = digest_of([file.parent])
    assert digest_of([file.parent]) == first
    assert digest_of([file.parent], "setting") != first
    file.chmod(0o755)
    assert digest_of([file.parent]) != first
    file.chmod(0o644)
    (file.parent / "__pycache__").mkdir()
    (file.parent / "__pycache__" / "script.pyc").write_text("")
    assert digest_of([file.parent]) == first
    file.rename(file.with_name("other"))
    assert digest_of([file.parent]) != first
