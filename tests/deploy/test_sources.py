"""Charts and values from folders: for a cluster that is far from the registries, and for what is only yours."""

import shlex

import pytest

from k8s.install.releases import releases

OTHERS = {release.name: release.chart for release in releases() if release.version}


@pytest.fixture
def charts(tmp_path):
    folder = tmp_path / "charts"
    for name in OTHERS.values():
        (folder / name).mkdir(parents=True)
        (folder / name / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 0.0.0\n")
    return folder


def installed(text):
    """The chart and the last file of values of each release that a plan installs."""
    lines = [shlex.split(line) for line in text.splitlines() if " upgrade --install " in line]
    return {line[5]: (line[6], line[-1], "--repo" in line) for line in lines}


def test_charts_of_others_come_from_the_folder_and_ours_from_the_repository(millrace, charts):
    status, text = millrace("install", "--dry-run", "--charts", str(charts))
    assert status == 0, text
    found = installed(text)
    assert {name: found[name][0] for name in OTHERS} == {name: str(charts / chart) for name, chart in OTHERS.items()}
    assert found["millrace"][0] == "charts/millrace"
    assert not any(remote for _, _, remote in found.values())
    assert "oci://" not in text


def test_more_values_come_last(millrace, tmp_path):
    (tmp_path / "millrace.yaml").write_text("environment: development\n")
    status, text = millrace("install", "--dry-run", "--more-values", str(tmp_path))
    assert status == 0, text
    found = installed(text)
    assert found["millrace"][1] == str(tmp_path / "millrace.yaml")
    assert found["airflow"][1] == "k8s/environments/kind/airflow.yaml"


def test_missing_charts_are_named_before_anything_is_made(world, millrace, charts):
    (charts / "airflow" / "Chart.yaml").unlink()
    status, text = millrace("install", "--charts", str(charts))
    assert status == 2
    assert f"{charts} lacks airflow: unpack each there" in text
    assert world.changing() == []


@pytest.mark.parametrize("name", ["millrace.yml", "kafka.yaml"])
def test_values_that_belong_to_no_release_are_refused(world, millrace, tmp_path, name):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / name).write_text("")
    status, text = millrace("install", "--more-values", str(tmp_path / "more"))
    assert status == 2
    assert "name each file after its release (airflow, millrace, monitoring, spark-operator, strimzi)" in text
    assert world.changing() == []
