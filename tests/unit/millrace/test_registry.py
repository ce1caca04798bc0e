"""The model registry: versions that stay as they are, aliases that move as a whole, files that are not trusted."""

from pathlib import Path

import pytest

from millrace import registry, storage
from millrace.errors import MillraceError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{tmp_path}")
    return tmp_path


def register(value: object, source: str = "dag/run") -> registry.Version:
    return registry.register("sample", registry.dump(value), source, {"accuracy": 0.9})


def test_versions_are_numbered_and_kept() -> None:
    assert registry.versions("sample") == []
    first, second = register({"weights": [1]}), register({"weights": [2]}, "dag/next")
    assert (first.number, second.number) == (1, 2)
    assert [each.number for each in registry.versions("sample")] == [1, 2]
    assert registry.load("sample", 1) == {"weights": [1]}
    assert first.metadata["accuracy"] == 0.9


def test_what_a_run_has_registered_is_not_registered_again() -> None:
    assert register("same").number == register("same").number == 1
    assert register("same", "dag/other").number == 2


def test_production_moves_and_can_be_taken_back() -> None:
    register("good")
    assert registry.promote("sample", 1) == {"production": 1}
    register("bad", "dag/next")
    assert registry.promote("sample", 2) == {"production": 2, "previous": 1}
    assert registry.promote("sample", 2) == {"production": 2, "previous": 1}
    assert registry.load("sample") == "bad"
    assert registry.load("sample", "previous") == "good"
    assert registry.promote("sample", 1) == {"production": 1, "previous": 2}
    assert registry.load("sample") == "good"


def test_a_version_that_was_cut_short_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MillraceError("the storage is full")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_json", refuse)
        with pytest.raises(MillraceError, match="full"):
            register("half")
    assert registry.versions("sample") == []
    assert register("whole").number == 1
    assert registry.load("sample", 1) == "whole"


def test_a_file_that_was_exchanged_is_not_opened(folder: Path) -> None:
    register("good")
    registry.promote("sample", 1)
    harmful = folder / "opened"

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (harmful,)  # type: ignore[return-value]

    (folder / "models/sample/versions/1/model.joblib").write_bytes(registry.dump(Harmful()))
    with pytest.raises(MillraceError, match="SHA-256 differs"):
        registry.load("sample")
    assert not harmful.exists()


@pytest.mark.parametrize(("model", "which"), [("sample", 7), ("sample", "production"), ("other", 1)])
def test_what_is_not_there_is_named(model: str, which: int | str) -> None:
    register("good")
    with pytest.raises(MillraceError, match=f"no version {which} of {model}"):
        registry.load(model, which)
    with pytest.raises(MillraceError, match="no version 9 of sample"):
        registry.promote("sample", 9)


@pytest.mark.parametrize("name", ["", "Sample", "../sample", "a/b", "x" * 64])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(MillraceError, match="can't be a model's name"):
        registry.register(name, b"", "dag/run", {})
