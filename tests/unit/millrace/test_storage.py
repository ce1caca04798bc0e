"""Files, folders and addresses below MILLRACE_STORAGE."""

from pathlib import Path

import pytest

from millrace import history, storage
from millrace.config import load_settings
from millrace.errors import MillraceError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "with space"
    monkeypatch.setenv("MILLRACE_STORAGE", f"file://{place}")
    return place


def test_json_is_written_read_and_deleted(folder: Path) -> None:
    address = storage.write_json({"a": 1}, "reports", "manual__2026-01-01T00:00:00+00:00", "s.json")
    assert storage.read_json("reports", "manual__2026-01-01T00:00:00+00:00", "s.json") == {"a": 1}
    assert Path(storage.local_file(address)).is_file()
    assert storage.exists("reports")
    assert storage.delete_tree("reports")
    assert not storage.delete_tree("reports")
    assert list(folder.iterdir()) == []


def test_missing_file_is_none_and_a_broken_one_a_sentence(folder: Path) -> None:
    assert storage.read_json("a.json") is None
    folder.mkdir()
    (folder / "a.json").write_text("{")
    with pytest.raises(MillraceError, match=r"a\.json is not JSON"):
        storage.read_json("a.json")


def test_storage_that_can_not_be_written_is_a_sentence(folder: Path) -> None:
    folder.write_text("a file where a folder should be")
    with pytest.raises(MillraceError, match="Cannot write"):
        storage.write_json({}, "reports", "s.json")


def test_hadoops_name_of_s3_becomes_everybodys() -> None:
    settings = load_settings({"MILLRACE_STORAGE": "s3a://bucket/base"})
    assert storage.table_url("t", settings) == "s3://bucket/base/tables/t"
    assert storage.url("a", "b", settings=settings) == "s3a://bucket/base/a/b"


@pytest.mark.parametrize(
    ("run_id", "name"), [("manual__2026-01-01T00:00:00+00:00", None), ("a/../b c", "a_.._b_c"), ("x", None)]
)
def test_run_folder_is_one_folder(run_id: str, name: str | None) -> None:
    assert storage.run_folder(run_id) == (name or run_id)


def test_recorder_goes_on_where_another_one_ended() -> None:
    def document(number: int) -> dict[str, object]:
        batch = {"runId": "r", "batchId": number, "timestamp": f"2026-01-01T00:00:0{number}Z"}
        return {"queries": [{"name": "q", "progress": [batch]}]}

    first = history.Recorder("run")
    first.add(document(1))
    first.save()
    second = history.Recorder("run")
    second.add(document(2))
    second.save()
    assert [batch["batch_id"] for batch in history.load("run")] == [1, 2]
