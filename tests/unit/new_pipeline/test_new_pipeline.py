"""A pipeline from the template: laid down in a copy of the repository its tests pass; refused, it leaves nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from embedded.paths import REPOSITORY
from embedded.versions import versions
from new_pipeline import writing
from new_pipeline.__main__ import main
from new_pipeline.layout import TEMPLATE, plan

NAME = "orders_check"
LONG = "a_pipeline_with_a_longer_name1"
PARTS = ("charts", "contracts", "dags", "embedded", "ingest", "new_pipeline", "spark-apps", "tests")
FILES = ("pyproject.toml", "versions.yaml")


def copy_of_the_repository(folder: Path) -> Path:
    for part in PARTS:
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for file in FILES:
        shutil.copy(REPOSITORY / file, folder)
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file with its content, and every folder."""
    found = (path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(folder / part) for part in ("", "dags", "spark-apps")),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """As much of a repository as a pipeline is added to."""
    for path in ("contracts/topics.yaml", "charts/millrace/files/topics.yaml", "contracts/released.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, tmp_path / path)
    for path in ("dags/millrace", "spark-apps", "tests/dags", "tests/unit/apps"):
        (tmp_path / path).mkdir(parents=True)
    return tmp_path


def test_its_tests_pass_at_once_and_so_do_those_of_contracts_and_style(tmp_path: Path) -> None:
    root = copy_of_the_repository(tmp_path)
    made = run(root, "-m", "new_pipeline", NAME)
    assert made.returncode == 0, made.stderr
    assert run(root, "-m", "new_pipeline", LONG).returncode == 0
    tests = [f"tests/dags/test_{NAME}.py", f"tests/unit/apps/test_{NAME}.py", "tests/unit/contracts"]
    tested = run(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    mine = [str(path) for name in (NAME, LONG) for path in sorted(root.rglob(f"*{name}*.py"))]
    mine += [str(root / "spark-apps" / name.replace("_", "-") / "app.py") for name in (NAME, LONG)]
    assert len(mine) == 10
    for check in (["check"], ["format", "--check"]):
        style = run(root, "-m", "ruff", *check, "--no-cache", *mine)
        assert style.returncode == 0, style.stdout + style.stderr
    # A broken pipeline fails its tests.
    app = root / "spark-apps/orders-check/app.py"
    app.write_text(app.read_text().replace('F.col("value") >= minimum', 'F.col("value") > minimum'))
    assert run(root, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests[1]).returncode == 1


def test_it_is_added_to_the_lists_and_the_rest_stays(lists: Path) -> None:
    before = yaml.safe_load((lists / "contracts/topics.yaml").read_text())["topics"]
    assert main([NAME, "--root", str(lists)]) == 0
    after = (lists / "contracts/topics.yaml").read_text()
    assert (lists / "charts/millrace/files/topics.yaml").read_text() == after
    topics = yaml.safe_load(after)["topics"]
    assert set(topics) - set(before) == {"orders-check", "orders-check-dead-letter", "orders-check-output"}
    assert {name: topics[name] for name in before} == before
    for path in lists.rglob("*orders*"):
        if path.is_file():
            assert "@@" not in path.read_text(), path


def test_a_dry_run_writes_nothing(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(lists)
    assert main([NAME, "--dry-run", "--root", str(lists)]) == 0
    assert contents(lists) == before
    assert f"new     dags/{NAME}.py" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My_Pipeline", "can't be a pipeline's name"),
        ("my-pipeline", "can't be a pipeline's name"),
        ("../escape", "can't be a pipeline's name"),
        ("_x", "can't be a pipeline's name"),
        ("x__y", "can't be a pipeline's name"),
        ("", "can't be a pipeline's name"),
        ("1abc", "can't be a pipeline's name"),
        ("ab", "has 2 characters"),
        ("a" * 31, "has 31 characters"),
        ("lambda", "is the name of a Python module"),
        ("json", "is the name of a Python module"),
        ("ingest", "is the name of a Python module"),
        ("contracts", "is the name of a Python module"),
        ("events", "events is in .*topics.yaml already"),
        ("event_windows", "event-windows is in .*topics.yaml already"),
    ],
)
def test_a_name_that_can_not_be_is_refused_in_one_sentence(
    lists: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    before = contents(lists)
    assert main(["--root", str(lists), "--", name]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(words, said), said
    assert contents(lists) == before


def test_a_name_that_is_taken_is_refused(lists: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([NAME, "--root", str(lists)]) == 0
    before = contents(lists)
    assert main([NAME, "--root", str(lists)]) == 2
    assert "is there already: choose another name" in capsys.readouterr().err
    assert contents(lists) == before


@pytest.mark.parametrize("failing", range(1, 14))
def test_whatever_can_not_be_written_nothing_half_made_is_left(
    lists: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], failing: int
) -> None:
    before, opened = contents(lists), 0
    layout = plan(NAME, lists)

    def count() -> None:
        nonlocal opened
        opened += 1
        if opened == failing:
            raise OSError(28, "No space left on device", "somewhere")

    make, replace = Path.open, writing._replace

    def open_counted(path: Path, mode: str = "r", **options: object) -> object:
        if mode == "x":
            count()
        return make(path, mode, **options)  # type: ignore[call-overload]

    def replace_counted(path: Path, content: bytes) -> None:
        count()
        replace(path, content)

    monkeypatch.setattr(Path, "open", open_counted)
    monkeypatch.setattr(writing, "_replace", replace_counted)
    assert len(layout.new) + len(layout.changed) == 13
    assert main([NAME, "--root", str(lists)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert contents(lists) == before


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([NAME, "--root", str(tmp_path)]) == 2
    assert "run this in the repository's root" in capsys.readouterr().err
    assert contents(tmp_path) == {}


def test_the_template_runs_on_the_versions_of_the_repository() -> None:
    text = (TEMPLATE / "application.yaml").read_text().replace("@@app@@", "x")
    assert yaml.safe_load(text)["spec"]["sparkVersion"] == versions()["spark"]["version"]
