import json

import pytest

from streamkit.checkpoint import HadoopFiles, hadoop_listing, inspect, local_listing, main, newest


def make(folder, offsets, commits):
    for name, ids in (("offsets", offsets), ("commits", commits)):
        (folder / name).mkdir(parents=True)
        for number in ids:
            (folder / name / str(number)).write_text("v1\n{}\n")
            (folder / name / f".{number}.crc").write_text("x")
    return folder


def test_temporary_files_and_checksums_are_not_batches():
    assert newest(["9", "10", ".11.crc", ".12.tmp", "10.tmp", "x"]) == 10
    assert newest([]) is None


@pytest.mark.parametrize(
    ("offsets", "commits", "clean"), [((0, 1), (0, 1), True), ((0, 1), (0,), False), ((0,), (), False), ((), (), True)]
)
def test_a_checkpoint_is_clean_if_its_last_batch_is_finished(tmp_path, offsets, commits, clean):
    state = inspect(str(make(tmp_path / "q", offsets, commits)), local_listing)
    assert state.clean is clean
    assert state.exists is bool(offsets)


def test_hadoop_and_local_see_the_same(spark, tmp_path):
    folder = make(tmp_path / "with space", (3, 4), (3,))
    assert (
        inspect(f"file://{folder}", hadoop_listing(spark)).planned == inspect(str(folder), local_listing).planned == 4
    )
    files = HadoopFiles(spark)
    assert files.read(f"file://{folder}/offsets/3") == "v1\n{}\n"
    assert files.exists(f"file://{folder}/offsets/3")
    assert not files.exists(f"file://{folder}/offsets/9")
    assert files.list(f"file://{tmp_path}/absent") == []


def test_the_command_line_says_it_and_exits_with_it(tmp_path, capsys):
    make(tmp_path / "app/good", (1,), (1,))
    make(tmp_path / "app/torn", (1, 2), (1,))
    assert main(["inspect", f"file://{tmp_path}/app/good", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clean"] is True
    assert main(["inspect", str(tmp_path / "app"), "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["planned"], line["finished"], line["clean"]) for line in lines] == [(1, 1, True), (2, 1, False)]
    assert main(["inspect", str(tmp_path / "nothing")]) == 2
    assert "holds no checkpoint" in capsys.readouterr().err
