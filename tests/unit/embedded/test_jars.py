"""The lock and its input."""

import hashlib
from pathlib import Path

import pytest

from embedded import jars
from embedded.errors import UserError
from embedded.ivy import Coordinate
from embedded.versions import versions


def test_lock_pins_what_versions_yaml_says() -> None:
    locked = {(jar.set_name, jar.coordinate) for jar in jars.read_lock()}
    for name, wanted in jars.read_input().items():
        for coordinate in (*wanted.alone, *wanted.transitive):
            assert (name, coordinate) in locked, f"run `python -m embedded jars lock`: {coordinate} is not in the lock"


def test_no_set_has_the_same_artifact_twice() -> None:
    for name in jars.SETS:
        artifacts = [jar.coordinate.artifact for jar in jars.read_lock() if jar.set_name == name]
        assert len(artifacts) == len(set(artifacts))


def test_spark_set_is_exactly_what_was_asked_for() -> None:
    locked = {jar.coordinate for jar in jars.read_lock() if jar.set_name == "spark"}
    assert locked == set(jars.read_input()["spark"].alone)


def test_lock_names_no_host() -> None:
    for path in (jars.LOCK, jars.INPUT):
        assert "://" not in path.read_text()


@pytest.mark.parametrize(
    "line",
    [
        "kafka org.example:thing:1",
        "kafka org.example:thing sha256=" + "0" * 64,
        "kafka org.example:thing:1 sha256=abc",
        "flink org.example:thing:1 sha256=" + "0" * 64,
        "kafka ../evil:thing/x:1 sha256=" + "0" * 64,
    ],
)
def test_bad_line_in_the_lock_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "jars.lock").write_text(f"# comment\n\n{line}\n")
    with pytest.raises(UserError, match="line 3: expected"):
        jars.read_lock(tmp_path / "jars.lock")


@pytest.mark.parametrize("line", ["kafka jar org.example:thing:{kafka.no_such}", "kafka fly a:b:1", "kafka jar"])
def test_bad_line_in_the_input_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "jars.in").write_text(line)
    with pytest.raises(UserError, match="line 1: expected"):
        jars.read_input(tmp_path / "jars.in")


def test_missing_lock(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        jars.read_lock(tmp_path / "none")


def test_versions_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "jars.in").write_text("kafka tree org.example:thing_{kafka.scala}:{kafka.version}\n")
    expected = Coordinate("org.example", f"thing_{versions()['kafka']['scala']}", versions()["kafka"]["version"])
    assert jars.read_input(tmp_path / "jars.in")["kafka"].transitive == (expected,)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert jars.sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()
