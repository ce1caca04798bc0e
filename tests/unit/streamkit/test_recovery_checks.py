"""What the tool says of checkpoints that are sound, and of every kind of damage."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamkit.checkpoint import REWINDING, main
from streamkit.recovery.files import LocalFiles, StoredFiles
from streamkit.recovery.layout import Store, read_checkpoint
from streamkit.recovery.soundness import check
from tests.unit.streamkit.checkpoints import Counting, fingerprint, kafka_checkpoint

WORDS = [["a", "b"], ["a", "c"], ["b", "b"], ["d"]]


@pytest.fixture(scope="module")
def counting(spark, tmp_path_factory) -> Counting:
    """Four batches of a query whose state is written as changes."""
    query = Counting(spark, tmp_path_factory.mktemp("changes"))
    query.add(*WORDS)
    query.run()
    return query


@pytest.fixture(scope="module")
def whole(spark, tmp_path_factory) -> Counting:
    """Two batches of a query whose state is written as a whole each time."""
    query = Counting(spark, tmp_path_factory.mktemp("whole"), changelog=False)
    query.add(*WORDS[:2])
    query.run()
    return query


@pytest.fixture
def copied(counting: Counting, tmp_path: Path) -> Path:
    """The checkpoint, to be damaged."""
    return Path(shutil.copytree(counting.checkpoint, tmp_path / "app/words"))


def findings(path: Path) -> list[str]:
    files = LocalFiles()
    return [each.text for each in check(files, read_checkpoint(files, str(path)))]


def test_a_checkpoint_of_a_real_query_is_sound(counting, whole, capsys):
    for query in (counting, whole):
        assert main(["check", str(query.checkpoint)]) == 0
        assert capsys.readouterr().out == f"{query.checkpoint}: sound\n"
    assert main(["check", f"file://{counting.checkpoint.parent}", "--json"]) == 0
    assert capsys.readouterr().out == ""


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda path: (path / name).write_bytes((path / name).read_bytes()[:size])


def gone(name: str) -> Callable[[Path], object]:
    return lambda path: shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()


def without_last_line(path: Path) -> None:
    lines = (path / "offsets/2").read_text().rstrip("\n").split("\n")
    (path / "offsets/2").write_text("\n".join(lines[:-1]))


def more_sources(path: Path) -> None:
    with (path / "offsets/1").open("a") as file:
        file.write('\n{"logOffset":1}')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (gone("commits/1"), ["commits/1 is missing, between 0 and 3"]),
        (gone("commits/0"), ["commits/0 is missing: the oldest commit is 1"]),
        (gone("offsets/2"), ["offsets/2 is missing, between 0 and 3"]),
        (gone("offsets/3"), ["batch 3 is committed and has no offsets"]),
        (cut("offsets/3", 40), ["offsets/3 is damaged"]),
        (cut("offsets/3", 3), ["offsets/3 is cut short (3 bytes)"]),
        (cut("offsets/1", 0), ["offsets/1 is cut short (0 bytes)"]),
        (cut("commits/3", 5), ["commits/3 is damaged"]),
        (without_last_line, ["offsets/2 is damaged (it names no source)"]),
        (more_sources, ["offsets/1 is cut short: it names 2 sources where others name 1"]),
        (gone("metadata"), ["metadata is missing"]),
        (cut("metadata", 9), ["metadata is damaged"]),
        (gone("state/0/0/2.changelog"), ["state/0/0 lacks version 2, which state of version 4 is made from"]),
        (gone("state/0/1/4.changelog"), ["state/0/1 lacks version 4"]),
        (gone("state/0/1"), ["state of operator 0, store default, partition 1 is missing"]),
        (gone("state/0/_metadata"), ["state/0/_metadata is missing"]),
        (cut("state/0/_metadata/metadata", 30), ["state/0/_metadata/metadata is damaged"]),
    ],
)
def test_each_damage_is_found_and_named(copied, damage, words, capsys):
    damage(copied)
    found = findings(copied)
    assert len(found) == len(words)
    for text, expected in zip(found, words, strict=True):
        assert expected in text
    assert main(["check", str(copied)]) == 1
    assert words[0] in capsys.readouterr().out


def test_a_whole_version_of_state_has_all_of_its_files(whole, tmp_path):
    copy = Path(shutil.copytree(whole.checkpoint, tmp_path / "words"))
    table = next((copy / "state/0/0/SSTs").glob("*.sst"))
    content = table.read_bytes()
    table.write_bytes(content[:-1])
    assert [f"{len(content)}" in text for text in findings(copy)] == [True]
    table.unlink()
    assert [table.name in text and "is missing" in text for text in findings(copy)] == [True]
    cut("state/0/1/2.zip", 100)(copy)
    assert any("state/0/1/2.zip is damaged" in text for text in findings(copy))
    gone("state/0/1/2.zip")(copy)
    assert any("state/0/1 lacks version 2" in text for text in findings(copy))


def test_a_batch_under_way_is_sound_but_not_two(tmp_path):
    ends = [{"t": {"0": n}} for n in (1, 2, 3)]
    assert findings(kafka_checkpoint(tmp_path / "one", ends, commits=2)) == []
    assert findings(kafka_checkpoint(tmp_path / "two", ends, commits=1)) == [
        "batches 1 to 2 are planned and not committed: at most one can be under way"
    ]


def test_commits_that_spark_has_yet_to_clean_up_are_no_damage(tmp_path):
    path = kafka_checkpoint(tmp_path / "q", [{"t": {"0": n}} for n in (1, 2, 3)])
    (path / "offsets/0").unlink()
    assert findings(path) == []
    (path / "offsets/1").unlink()
    (path / "offsets/2").unlink()
    assert findings(path) == ["no batch has offsets, though some are committed"]


def test_an_unfinished_rewind_is_a_finding(copied):
    copied.with_name(f"words{REWINDING}").write_text("{}")
    assert findings(copied) == ["a rewind began and did not finish: ask for the same rewind again, which finishes it"]


def test_a_version_needs_every_change_since_the_last_whole_one():
    store = Store(0, 0, "default", whole={3}, changes={1, 2, 3, 4, 5})
    assert (store.base(5), store.base(2)) == (3, 0)


def test_inspect_shows_batches_state_and_age(counting, capsys):
    assert main(["inspect", str(counting.checkpoint.parent), "--json", "--batches", "2"]) == 0
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["query"], found["oldest"], found["planned"], found["finished"], found["clean"]) == (
        "words",
        0,
        3,
        3,
        True,
    )
    assert [batch["batch"] for batch in found["batches"]] == [2, 3]
    assert all(batch["planned_at"] <= batch["finished_at"] for batch in found["batches"])
    (state,) = found["state"]
    assert (state["operator"], state["store"], state["partitions"]) == (0, "default", 2)
    assert (state["oldest_version"], state["newest_version"]) == (1, 4)
    on_disk = sum(
        p.stat().st_size for p in counting.checkpoint.rglob("*") if p.is_file() and not p.name.endswith(".crc")
    )
    assert found["bytes"] == on_disk
    assert 0 < state["bytes"] < on_disk
    assert 0 <= found["age_seconds"] < 3600
    assert found["backups"] == []


def test_inspect_shows_offsets_and_counts_records(tmp_path, capsys):
    ends = [{"t": {"0": 5, "1": 7}}, {"t": {"0": 9, "1": 8}}]
    kafka_checkpoint(tmp_path / "app/q", ends)
    (tmp_path / "app/q.backup-20260101T000000Z/offsets").mkdir(parents=True)
    assert main(["inspect", str(tmp_path / "app")]) == 0
    text = capsys.readouterr().out
    assert "batches 0 to 1, finished 1: clean" in text
    assert "t 0:9 1:8" in text
    assert f"backup {tmp_path}/app/q.backup-20260101T000000Z" in text
    assert main(["inspect", str(tmp_path / "app"), "--json"]) == 0
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert [batch["records"] for batch in found["batches"]] == [None, 5]
    assert found["batches"][1]["offsets"] == {"t": {"0": 9, "1": 8}}


@pytest.fixture
def stored(spark) -> Iterator[StoredFiles]:
    yield StoredFiles(spark)


def test_files_are_the_same_by_python_and_by_hadoop(stored, counting, tmp_path):
    local = LocalFiles()
    address = f"file://{counting.checkpoint}"
    ours, theirs = local.walk(str(counting.checkpoint)), stored.walk(address)
    assert [(file.path, file.size) for file in ours] == [(file.path, file.size) for file in theirs]
    assert [abs(a.modified - b.modified) < 1 for a, b in zip(ours, theirs, strict=True)] == [True] * len(ours)
    assert local.read(f"{counting.checkpoint}/metadata") == stored.read(f"{address}/metadata")
    assert local.folders(str(counting.checkpoint)) == stored.folders(address)
    assert stored.read(f"{address}/none") is None
    assert (stored.walk(f"{address}/none"), stored.folders(f"{address}/none")) == ([], [])
    for files, target in ((local, tmp_path / "a"), (stored, tmp_path / "b")):
        name = str(target) if files is local else f"file://{target}"
        files.copy(str(counting.checkpoint) if files is local else address, name)
        files.write(f"{name}/metadata", b'{"id":"other"}')
        files.delete([f"{name}/offsets/0", f"{name}/offsets/none"])
        # Read by Hadoop, which compares with the checksum beside it.
        assert stored.read(f"file://{target}/metadata") == b'{"id":"other"}'
        assert not list(target.glob("offsets/.0.crc"))
    left, right = fingerprint(tmp_path / "a"), fingerprint(tmp_path / "b")
    assert {k: v for k, v in left.items() if not k.endswith(".crc")} == {
        k: v for k, v in right.items() if not k.endswith(".crc")
    }


def test_what_is_not_there_is_one_sentence(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}: holds no checkpoint: expected folders offsets and commits, there or one below\n"
    )
    assert main(["check"]) == 2
    assert "give a checkpoint's path" in capsys.readouterr().err
    kafka_checkpoint(tmp_path / "app/q", [{"t": {"0": 5}}])
    assert main(["check", str(tmp_path / "app"), "--query", "other"]) == 1
    assert "there is no query other: choose one of q" in capsys.readouterr().err


def test_state_is_read_by_spark(counting, capsys):
    assert main(["state", str(counting.checkpoint), "--json"]) == 0
    (found,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["operator"], found["store"], found["batch"], found["count"]) == (0, "default", 3, 4)
    rows = {row["key"]["word"]: row["value"]["count"] for row in found["rows"]}
    assert rows == {"a": 2, "b": 3, "c": 1, "d": 1}
    assert main(["state", str(counting.checkpoint), "--batch", "0", "--operator", "0", "--limit", "1"]) == 0
    text = capsys.readouterr().out
    assert "after batch 0: 2 rows" in text
    assert len(text.splitlines()) == 3
    assert main(["state", str(counting.checkpoint), "--operator", "7"]) == 1
    assert "no such state: operators and stores are 0/default" in capsys.readouterr().err
    assert main(["state", str(counting.checkpoint), "--batch", "9"]) == 1
    assert "batch 9 is not there: committed batches are 0 to 3" in capsys.readouterr().err
