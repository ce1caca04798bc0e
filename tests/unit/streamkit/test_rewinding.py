"""Going back to a batch or to offsets: what changes, what is refused, and what an interruption leaves."""

import fcntl
import json
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from streamkit.checkpoint import REWINDING, main
from streamkit.recovery import RecoveryError, rewinding
from streamkit.recovery.files import LocalFiles
from streamkit.recovery.layout import read_checkpoint
from streamkit.recovery.soundness import check
from streamkit.recovery.table import Era, Lineage, newest_batch, plan_restore
from tests.unit.streamkit.checkpoints import Counting, fingerprint, kafka_checkpoint

WORDS = [["a", "b"], ["a", "c"], ["b", "b"], ["d"]]
COUNTS = {"a": 2, "b": 3, "c": 1, "d": 1}
FILES = LocalFiles()


@pytest.fixture(scope="module")
def original(spark, tmp_path_factory) -> Counting:
    query = Counting(spark, tmp_path_factory.mktemp("original"))
    query.add(*WORDS)
    query.run()
    assert query.results == COUNTS
    return query


@pytest.fixture
def query(original, spark, tmp_path) -> Counting:
    """The same query on a copy of its checkpoint."""
    copy = Counting(spark, tmp_path)
    shutil.copytree(original.checkpoint, copy.checkpoint)
    copy.input.rmdir()
    copy.input = original.input
    return copy


def rewind(path: Path, *arguments: str) -> int:
    return main(["rewind", str(path), "--claimed", "--yes", *arguments])


def test_a_rewound_query_gives_the_same_answer_again(query, capsys):
    before = fingerprint(query.checkpoint)
    old_id = json.loads((query.checkpoint / "metadata").read_text())["id"]
    assert rewind(query.checkpoint, "--to-batch", "1", "--json") == 0
    (done,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (done["done"], done["batch"], done["newest"]) == (True, 1, 3)
    assert fingerprint(Path(done["backup"])) == before
    found = read_checkpoint(FILES, str(query.checkpoint))
    assert found.planned == found.finished == [0, 1]
    assert {max(store.changes | store.whole) for store in found.stores} == {2}
    assert check(FILES, found) == []
    # Sinks know a batch by the query's id and its number, and the numbers come again.
    assert json.loads((query.checkpoint / "metadata").read_text())["id"] == done["new_id"] != old_id
    assert not query.checkpoint.with_name(f"words{REWINDING}").exists()
    query.run()
    assert query.batches[0] == 2
    assert query.results == {"b": 3, "d": 1}, "batches 0 and 1 were not run again, and what they counted is still known"
    assert main(["check", str(query.checkpoint)]) == 0


def test_a_dry_run_shows_the_plan_and_changes_nothing(query, capsys):
    before = fingerprint(query.checkpoint.parent)
    assert rewind(query.checkpoint, "--to-batch", "1", "--dry-run") == 0
    text = capsys.readouterr().out
    assert f"rewind {query.checkpoint} to batch 1" in text
    assert "batches after 1 up to 3" in text
    assert fingerprint(query.checkpoint.parent) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to-batch", "9"), "batch 9 is not there: committed batches are 0 to 3"),
        (("--to-offsets", "events:0:5"), "this query keeps state"),
        (("--to-offsets", "events/5"), "--to-offsets events/5: is neither topic:partition:offset nor a JSON file"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(query, arguments, words, capsys):
    before = fingerprint(query.checkpoint.parent)
    assert rewind(query.checkpoint, *arguments) == 1
    error = capsys.readouterr().err
    assert words in error
    assert len(error.splitlines()) == 1
    assert fingerprint(query.checkpoint.parent) == before


def test_a_batch_whose_state_is_gone_is_refused_and_the_oldest_one_named(query, capsys):
    for partition in (0, 1):
        (query.checkpoint / f"state/0/{partition}/1.changelog").unlink()
        with zipfile.ZipFile(query.checkpoint / f"state/0/{partition}/3.zip", "w") as whole:
            whole.writestr("metadata", 'v1\n{"sstFiles":[]}')
    assert rewind(query.checkpoint, "--to-batch", "1") == 1
    error = capsys.readouterr().err
    assert "the state of batch 1 is not there (state/0/0 lacks version 1" in error
    assert error.endswith("the oldest batch whose state is whole is 2\n")


def test_nobody_rewinds_while_a_driver_has_the_app(query, tmp_path, capsys):
    lock = tmp_path / "lock"
    before = fingerprint(query.checkpoint.parent)
    with lock.open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        for path in (query.checkpoint, query.checkpoint / "nothing"):
            # The lock is asked for before anything is looked at, so also where there is nothing to see.
            assert main(["rewind", str(path), "--lock", str(lock), "--yes", "--to-batch", "1"]) == 1
            assert capsys.readouterr().err == f"{lock} is held: a driver or another run has this app: stop that first\n"
    assert fingerprint(query.checkpoint.parent) == before
    assert main(["rewind", str(query.checkpoint), "--lock", str(lock), "--yes", "--to-batch", "1"]) == 0


def test_a_lock_that_is_not_there_is_refused(query, tmp_path, capsys):
    assert main(["rewind", str(query.checkpoint), "--lock", str(tmp_path / "no"), "--yes", "--to-batch", "1"]) == 1
    assert "cannot be opened (No such file or directory): name the app's lock" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_a_table_that_began_after_a_rewind_goes_back_too(tmp_path):
    path = kafka_checkpoint(tmp_path / "app/q", [{"t": {"0": n}} for n in range(1, 4)])
    where = tmp_path / "table"
    assert rewind(path, "--to-batch", "1", "--table", str(where)) == 0
    mine = json.loads((path / "metadata").read_text())["id"]
    kafka_batch(path, 2)
    kafka_batch(path, 3)
    found = rewinding.lineage(FILES, read_checkpoint(FILES, str(path)))
    plan = plan_restore(FILES, table(where, [{mine: 2}, {mine: 3}]), found, 2)
    assert plan is not None and plan.version == 0


def kafka_batch(path: Path, batch: int) -> None:
    for folder in ("offsets", "commits"):
        (path / folder / str(batch)).write_text((path / folder / "0").read_text())


def test_without_a_claim_or_an_answer_nothing_is_done(query, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["rewind", str(query.checkpoint), "--to-batch", "1", "--yes"])
    assert ended.value.code == 2
    assert "--lock --claimed is required" in capsys.readouterr().err
    before = fingerprint(query.checkpoint.parent)
    assert main(["rewind", str(query.checkpoint), "--to-batch", "1", "--claimed"]) == 1
    assert "say --yes" in capsys.readouterr().err
    assert fingerprint(query.checkpoint.parent) == before


class KilledError(Exception):
    pass


class Failing(LocalFiles):
    """Ends, as a killed process does, before the n-th deletion."""

    def __init__(self, deletions: int) -> None:
        self.left = deletions

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            if self.left == 0:
                raise KilledError
            self.left -= 1
            super().delete([path])


@pytest.mark.parametrize("deletions", [0, 3, 7])
def test_an_interrupted_rewind_is_finished_by_the_same_one(query, deletions, capsys):
    before = fingerprint(query.checkpoint)
    plan = rewinding.plan_batch(FILES, read_checkpoint(FILES, str(query.checkpoint)), 1)
    with pytest.raises(KilledError):
        rewinding.rewind(Failing(deletions), plan, lambda _: None)
    assert main(["check", str(query.checkpoint)]) == 1
    assert "a rewind began and did not finish" in capsys.readouterr().out
    assert rewind(query.checkpoint, "--to-batch", "2") == 1
    assert "a rewind to batch 1 began and did not finish: ask for that one first" in capsys.readouterr().err
    assert rewind(query.checkpoint, "--to-batch", "1") == 0
    assert main(["check", str(query.checkpoint)]) == 0
    assert read_checkpoint(FILES, str(query.checkpoint)).finished == [0, 1]
    assert json.loads((query.checkpoint / "metadata").read_text())["id"] == plan.new_id
    assert fingerprint(Path(plan.backup)) == before


def test_an_interrupted_backup_is_made_again(query):
    class Half(LocalFiles):
        def copy(self, source: str, target: str) -> None:
            shutil.copytree(f"{source}/commits", f"{target}/commits")
            raise KilledError

    before = fingerprint(query.checkpoint)
    plan = rewinding.plan_batch(FILES, read_checkpoint(FILES, str(query.checkpoint)), 1)
    with pytest.raises(KilledError):
        rewinding.rewind(Half(), plan, lambda _: None)
    assert rewind(query.checkpoint, "--to-batch", "1") == 0
    assert fingerprint(Path(plan.backup)) == before


def test_a_stateless_query_starts_at_offsets(tmp_path, capsys):
    path = kafka_checkpoint(tmp_path / "app/q", [{"t": {"0": 5, "1": 7}}, {"t": {"0": 9, "1": 8}}])
    chosen = tmp_path / "offsets.json"
    chosen.write_text('{"t": {"0": 6}}')
    assert rewind(path, "--to-offsets", str(chosen), "--json") == 0
    (done,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert done["records"] == 3
    # A partition that isn't named stays where it was; the rest of the checkpoint begins anew.
    assert (path / "sources/0/0").read_text() == '\0v1\n{"t": {"0": 6, "1": 8}}'
    assert sorted(fingerprint(path)) == ["metadata", "rewinds.json", "sources/0/0"]
    assert rewind(path, "--to-offsets", "t:0:1") == 1
    assert "no batch is committed, so there is nothing to go back from" in capsys.readouterr().err


def test_an_unknown_partition_is_refused(tmp_path, capsys):
    path = kafka_checkpoint(tmp_path / "app/q", [{"t": {"0": 5}}])
    assert rewind(path, "--to-offsets", "t:0:1", "t:4:1") == 1
    assert "this query does not read t:4: correct --to-offsets" in capsys.readouterr().err


def table(path: Path, commits: list[dict]) -> str:
    """A Delta log: each commit is {query: batch}, or {} for rows of somebody else, or {"RESTORE": 0}."""
    (path / "_delta_log").mkdir(parents=True)
    for version, batches in enumerate(commits):
        operation = "RESTORE" if "RESTORE" in batches else "WRITE"
        actions = [{"commitInfo": {"operation": operation}}, {"add": {"path": f"{version}", "dataChange": True}}]
        actions += [{"txn": {"appId": q, "version": b}} for q, b in batches.items() if q != "RESTORE"]
        (path / f"_delta_log/{version:020}.json").write_text("\n".join(map(json.dumps, actions)))
    return str(path)


FIRST = Lineage((Era("one"),), frozenset({"one"}))


@pytest.mark.parametrize(
    ("commits", "lineage", "batch", "version"),
    [
        ([{"one": 0}, {"one": 1}, {"one": 2}], FIRST, 0, 0),
        ([{"one": 0}, {"one": 1}, {"one": 2}], FIRST, 2, "none"),  # nothing of the table is later
        ([{"one": 0}, {"one": 5}], FIRST, 3, 0),  # batches without rows leave no commit
        ([{"one": 4}, {"one": 5}], FIRST, 3, None),  # the table was made by a batch that goes
        ([{}, {"one": 4}], FIRST, 3, 0),  # what others wrote before stays
        ([{"one": 0}, {}, {"one": 4}], FIRST, 0, 1),
        (  # rewound to batch 1 before (version 3 restored version 1), and now once more to it, to 0 and to a new one
            [{"one": 0}, {"one": 1}, {"one": 2}, {"RESTORE": 0}, {"two": 2}, {"two": 3}],
            Lineage((Era("one"), Era("two", 1, 3)), frozenset({"one", "two"}), frozenset({3})),
            1,
            1,
        ),
        (
            [{"one": 0}, {"one": 1}, {"one": 2}, {"RESTORE": 0}, {"two": 2}, {"two": 3}],
            Lineage((Era("one"), Era("two", 1, 3)), frozenset({"one", "two"}), frozenset({3})),
            0,
            0,
        ),
        (
            [{"one": 0}, {"one": 1}, {"one": 2}, {"RESTORE": 0}, {"two": 2}, {"two": 3}],
            Lineage((Era("one"), Era("two", 1, 3)), frozenset({"one", "two"}), frozenset({3})),
            2,
            4,
        ),
        (  # no batch of the second id up to 2 had rows: the table goes back to where that id began
            [{"one": 0}, {"one": 1}, {"one": 2}, {"RESTORE": 0}, {"two": 3}],
            Lineage((Era("one"), Era("two", 1, 3)), frozenset({"one", "two"}), frozenset({3})),
            2,
            3,
        ),
    ],
)
def test_the_table_goes_back_to_where_the_batch_left_it(tmp_path, commits, lineage, batch, version):
    plan = plan_restore(FILES, table(tmp_path, commits), lineage, batch)
    assert (plan.version if plan else "none") == version


def test_rows_of_others_are_not_undone(tmp_path):
    path = table(tmp_path, [{"one": 0}, {"one": 1}, {}])
    with pytest.raises(RecoveryError, match="WRITE wrote version 2 after batch 0, and restoring the table would undo"):
        plan_restore(FILES, path, FIRST, 0)


def test_a_rewind_that_did_not_look_at_the_table_leaves_its_version_unknown(tmp_path):
    path = table(tmp_path, [{"one": 0}, {"two": 1}])
    lineage = Lineage((Era("one"), Era("two", 0, None)), frozenset({"one", "two"}))
    with pytest.raises(RecoveryError, match="did not look at the table"):
        plan_restore(FILES, path, lineage, 1)


def test_a_table_that_is_ahead_of_the_checkpoint_is_found(tmp_path):
    path = kafka_checkpoint(tmp_path / "app/q", [{"t": {"0": 5}}, {"t": {"0": 6}}])
    mine = json.loads((path / "metadata").read_text())["id"]
    ahead = table(tmp_path / "ahead", [{mine: 0}, {mine: 1}, {mine: 2}])
    assert newest_batch(FILES, ahead, mine) == 2
    (finding,) = check(FILES, read_checkpoint(FILES, str(path)), table=ahead)
    assert "holds batch 2 of this query, and the checkpoint's newest is 1" in finding.text
    assert check(FILES, read_checkpoint(FILES, str(path)), table=table(tmp_path / "same", [{mine: 0}, {mine: 1}])) == []


def test_history_tells_which_id_a_batch_has(tmp_path):
    path = kafka_checkpoint(tmp_path / "app/q", [{"t": {"0": n}} for n in range(1, 7)])
    first = json.loads((path / "metadata").read_text())["id"]
    for batch in (4, 1):
        assert rewind(path, "--to-batch", str(batch)) == 0
    found = rewinding.lineage(FILES, read_checkpoint(FILES, str(path)))
    last = json.loads((path / "metadata").read_text())["id"]
    assert [(era.query_id, era.after) for era in found.eras] == [(first, -1), (last, 1)]
    assert len(found.ids) == 3
    assert (found.of(1).query_id, found.of(2).query_id) == (first, last)
