"""benchmarks/RESULTS.md: what is written by whom, and what each leaves alone."""

import json

import pytest

from benchmarks import cluster, table
from benchmarks.table import Row
from tests.cluster.times import Times


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    path = tmp_path / "RESULTS.md"
    monkeypatch.setattr(table, "RESULTS", path)
    monkeypatch.setenv("MILLRACE_HOME", str(tmp_path / "home"))
    table.write([Row("Throughput: 5 events", "filter", "rows/s", [100])], "a machine")
    return path


@pytest.fixture
def times():
    times = Times()
    times.note("install", 200)
    for seconds in (3, 5, 4):
        times.note("a task waits", seconds)
    return times


def test_the_times_become_a_section(results, times):
    times.write("local")
    assert cluster.main() == 0
    before, _, section = results.read_text().partition("\n## In a cluster\n")
    assert "| filter | 100 rows/s |" in before
    assert ". a machine." in before
    assert "| a task waits | 4.00 s | 3.00 to 5.00 (3) |" in section
    assert "one node on this machine" in section


def test_the_section_is_replaced_and_not_added(results, times):
    times.write("kind")
    cluster.main()
    first = results.read_text()
    cluster.main()
    assert results.read_text() == first


def test_a_bench_leaves_what_it_did_not_measure_alone(results, times):
    times.write("local")
    cluster.main()
    first = results.read_text()
    table.write([Row("Latency", "windows", "ms", [7])], "another machine")
    text = results.read_text()
    assert "another machine" in text.partition("\n## Latency\n")[2]
    start = text.index("\n## Latency\n")
    end = text.index("\n## In a cluster\n")
    assert text[:start] + text[end:] == first


def test_a_section_is_replaced_whatever_its_size_was(results):
    table.write([Row("Throughput: 7 events", "windows", "rows/s", [200])], "a machine")
    text = results.read_text()
    assert text.count("\n## ") == 1
    assert "## Throughput: 7 events\n" in text
    assert "filter" not in text.partition("\n## ")[2]


def test_without_times_nothing_is_written(results, capsys):
    first = results.read_text()
    assert cluster.main() == 1
    assert "make test-cluster" in capsys.readouterr().err
    assert results.read_text() == first


def test_the_table_at_the_end_of_the_tests(times):
    assert times.lines() == ["install         200.0 s", "a task waits      4.0 s  (3.0 to 5.0, 3 times)"]


def test_times_are_kept_where_the_home_is(times, tmp_path):
    path = times.write("local")
    assert path == tmp_path / "home" / "cluster" / "times.json"
    assert json.loads(path.read_text())["seconds"]["a task waits"] == [3, 5, 4]
