"""The class archive: a driver really starts from it; one that does not fit is not used; a failure is one line."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from embedded import class_archive
from embedded.errors import UserError
from embedded.java import Java

pytestmark = pytest.mark.embedded

APP = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.config("spark.ui.enabled", "false").getOrCreate()
print("counted", spark.range(7).selectExpr("sum(id) AS n").first().n)
spark.stop()
"""


def test_a_driver_starts_from_the_archive(
    spark_jars: Path, java_home: Path, submit_options: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    loaded = tmp_path / "loaded"
    environment = os.environ | {
        "JAVA_HOME": str(java_home),
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_SUBMIT_OPTS": f"{submit_options} -Xlog:class+load:file={loaded}",
    }
    command = [str(Path(sys.executable).parent / "spark-submit"), "--master", "local[1]"]
    command += ["--conf", f"spark.driver.extraClassPath={spark_jars}/*", str(tmp_path / "app.py")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "counted 21" in result.stdout, result.stderr
    sources = [line.rpartition("source: ")[2] for line in loaded.read_text().splitlines() if "source: " in line]
    from_archive = [source for source in sources if source.startswith("shared objects file")]
    # Not among them: what Java or Spark makes as it runs.
    assert len(from_archive) > 0.6 * len(sources)
    assert len(from_archive) > 5_000


def test_other_jars_or_another_java_do_not_get_this_archive(
    java: Java, spark_jars: Path, jar_cache: Path, submit_options: str, tmp_path: Path
) -> None:
    assert class_archive.java_options(java, spark_jars, jar_cache)
    other = tmp_path / "jars"
    other.mkdir()
    (other / "a.jar").touch()
    assert class_archive.java_options(java, other, jar_cache) == []
    assert class_archive.java_options(replace(java, version="17.0.0-other"), spark_jars, jar_cache) == []


def test_a_java_that_ends_is_one_sentence_and_leaves_nothing(spark_jars: Path, tmp_path: Path) -> None:
    home = tmp_path / "broken"
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "java").write_text("#!/bin/sh\necho 'no room for a heap' >&2\nexit 3\n")
    (home / "bin" / "java").chmod(0o755)
    with pytest.raises(UserError, match=r"^Spark could not be started .*\(exit status \d+; .*no room for a heap\)\.$"):
        class_archive.make(Java(home, 17, "17.0.1", "a test"), spark_jars, tmp_path / "archives", print)
    # Nothing but the lock, on which the next one waits.
    assert [path.name for path in (tmp_path / "archives").iterdir()] == [".archive.lock"]


def test_options_are_added_to_those_of_the_user() -> None:
    environment = {"SPARK_SUBMIT_OPTS": "-Xss4m"}
    assert class_archive.submit_options(["-Da=b c"], environment) == "-Xss4m '-Da=b c'"
    assert class_archive.submit_options([], {}) == ""
