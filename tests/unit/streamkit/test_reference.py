"""Which version of a reference table a stream uses, whenever it was killed."""

from pathlib import Path

import pytest

from streamkit.reference import pin, read_reference
from streamkit.settings import AppSettings, SettingsError, SinksSettings, SourceSettings


def batch(checkpoint: Path, number: int, *, finished: bool) -> None:
    for folder in ("offsets", "commits"):
        (checkpoint / folder).mkdir(parents=True, exist_ok=True)
    (checkpoint / "offsets" / str(number)).touch()
    if finished:
        (checkpoint / "commits" / str(number)).touch()


def noted(checkpoint: Path) -> list[str]:
    return sorted(path.name for path in (checkpoint / "reference").iterdir() if not path.name.startswith("."))


def test_a_start_takes_the_version_it_is_given_unless_a_batch_is_unfinished(spark, tmp_path):
    assert pin(spark, str(tmp_path), 3) == 3
    assert pin(spark, str(tmp_path), 3) == 3
    batch(tmp_path, 0, finished=True)
    assert pin(spark, str(tmp_path), 4) == 4
    assert noted(tmp_path) == ["4"]
    batch(tmp_path, 1, finished=False)
    assert pin(spark, str(tmp_path), 5) == 4
    assert noted(tmp_path) == ["4"]
    batch(tmp_path, 1, finished=True)
    assert pin(spark, str(tmp_path), 5) == 5


def test_a_start_that_was_killed_between_two_notes_is_mended_by_the_next(spark, tmp_path):
    batch(tmp_path, 0, finished=True)
    for version in (1, 2):
        (tmp_path / "reference").mkdir(exist_ok=True)
        (tmp_path / "reference" / str(version)).touch()
    assert pin(spark, str(tmp_path), 2) == 2
    assert noted(tmp_path) == ["2"]


def test_an_app_that_names_no_table_is_told_so(spark):
    settings = AppSettings("app", SourceSettings("t", "c"), SinksSettings())
    with pytest.raises(SettingsError, match=r"reference: is missing"):
        read_reference(spark, settings, "query")
