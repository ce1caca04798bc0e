"""The images are built, started as their users, and asked what is in them (`make test-images`)."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from embedded import jars
from embedded.class_archive import QUICK_START
from embedded.paths import REPOSITORY
from embedded.versions import versions
from tests.go_tools import go_tool
from tests.images.builder import Container, Store
from tests.images.dockerfiles import IMAGES, VERSION, name_of
from tests.images.stand_ins import EXECUTOR

# The first test builds: about four minutes on two cores, and twice that on a busy machine.
pytestmark = [pytest.mark.images, pytest.mark.timeout(2400)]

USERS = {"airflow": ("50000", "0"), "spark": ("10001", "10001"), "ingest": ("10001", "10001")}

# These containers share this machine's network, where their host name means nothing; a pod's does in its own.
LOOPBACK = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_HOSTNAME": "localhost", "SPARK_SUBMIT_OPTS": QUICK_START}

SPARK_JOB = """
from pyspark.sql import SparkSession, functions as F

spark = SparkSession.builder.getOrCreate()
double = F.udf(lambda number: number * 2, "long")  # a Python worker computes it
spark.range(100).select(double("id").alias("id")).write.format("delta").save("/tmp/table")
print("total", spark.read.format("delta").load("/tmp/table").agg(F.sum("id")).first()[0])
jvm = spark.sparkContext._jvm
print("java", jvm.java.lang.System.getProperty("java.specification.version"))
for name in ("org.apache.hadoop.fs.s3a.S3AFileSystem", "org.apache.spark.sql.kafka010.KafkaSourceProvider"):
    print("class", jvm.java.lang.Class.forName(name).getName())
"""

READ_DAGS = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
print(json.dumps({"errors": bag.import_errors, "dags": sorted(bag.dags)}))
"""


@pytest.fixture(params=IMAGES)
def container(request: pytest.FixtureRequest) -> Container:
    return request.getfixturevalue(request.param)


@pytest.fixture
def image(container: Container, request: pytest.FixtureRequest) -> str:
    return request.node.callspec.params["container"]


def test_sizes_and_times(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {image: store.megabytes(name_of(image)) for image in IMAGES}
    sizes["base"] = store.megabytes(f"docker.io/library/debian:{versions()['base_images']['debian']}")
    lines = ["", "image      size (MB)  built in (s)"]
    for image in ("base", *IMAGES):
        lines.append(f"{image:10} {sizes.get(image, 0):9.0f}  {store.seconds.get(image, 0):12.0f}")
    with capsys.disabled():
        sys.stdout.write("\n".join([*lines, ""]))
    # Of what is in them today, and a little: a build tool or the bundle of AWS's SDK would be more.
    assert sizes["spark"] < 1250
    assert sizes["airflow"] < 1500
    assert sizes["ingest"] < 500


def test_runs_as_its_user(container: Container, image: str) -> None:
    assert container.configuration["User"] == ":".join(USERS[image])
    assert (container.output("id", "-u"), container.output("id", "-g")) == USERS[image]


def test_labels(container: Container, image: str) -> None:
    labels = container.configuration["Labels"]
    assert labels["org.opencontainers.image.title"] == f"millrace/{image}"
    assert labels["org.opencontainers.image.version"] == VERSION
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])


def test_python_is_the_pinned_one(container: Container) -> None:
    release = versions()["base_images"]["python"]
    assert container.output("python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])") == release


def test_packages_are_exactly_those_of_the_lock(container: Container, image: str) -> None:
    code = "import importlib.metadata as m; print(*{f'{d.name}=={d.version}' for d in m.distributions()}, sep='\\n')"
    found = {_normal(line) for line in container.output("python", "-c", code).splitlines()}
    lock = (REPOSITORY / "requirements" / f"{image}.lock").read_text()
    locked = {_normal(line) for line in re.findall(r"^([\w.-]+==[\w.+!-]+)", lock, re.MULTILINE)}
    always = {_normal(line) for line in re.findall(r"^([\w.-]+==[\w.+!-]+) \\$", lock, re.MULTILINE)}
    assert always <= found <= locked


def _normal(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", requirement.partition("==")[0]).lower() + "==" + requirement.partition("==")[2]


def test_no_build_tool_and_no_cache_stays(container: Container) -> None:
    for program in ("gcc", "make", "pip", "pip3", "uv", "git", "curl"):
        assert container.execute("sh", "-c", f"command -v {program}").returncode != 0, program
    left = "ls -A /var/lib/apt/lists /var/cache/apt 2>/dev/null; ls -d /build 2>/dev/null; ls -A /tmp"
    lines = container.output("sh", "-c", f"{{ {left}; }} | grep -v : | cat").split()
    assert set(lines) <= {"hsperfdata_millrace", "table", "job.py", "migrate.log", "driver-classes", "executor-classes"}


def test_user_can_change_nothing_that_is_run(container: Container) -> None:
    assert container.output("find", "/opt/venv", "/opt/millrace", "/usr", "-writable", "-not", "-type", "l") == ""


def test_ingest_starts(ingest: Container) -> None:
    result = ingest.start("--help")
    assert result.returncode == 0, result.stderr
    assert "replay" in result.stdout


def test_ingest_says_what_it_lacks(ingest: Container) -> None:
    result = ingest.start("replay")
    assert result.returncode == 2
    assert "KAFKA_BOOTSTRAP_SERVERS" in result.stderr


def test_ingest_reads_its_data_and_contracts(ingest: Container) -> None:
    """Fails at the broker, that is: after it read the recorded flights, the time zones and the contract."""
    arguments = ["--bootstrap-servers", "127.0.0.1:1", "--days", "1", "--connect-timeout", "2"]
    result = ingest.start("replay", *arguments)
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


def test_airflow_has_its_version(airflow: Container) -> None:
    result = airflow.start("version", CONNECTION_CHECK_MAX_COUNT="0")
    assert result.stdout.strip().splitlines()[-1] == versions()["airflow"]["version"], result.stderr


def test_airflow_imports_the_dags(airflow: Container, tmp_path: Path) -> None:
    """Started as the chart does, with a database of its own (SQLite, in the container's home)."""
    code = tmp_path / "read_dags.py"
    code.write_text(READ_DAGS)
    airflow.put(code, "/home/airflow/read_dags.py")
    command = "airflow db migrate >/tmp/migrate.log 2>&1 && python /home/airflow/read_dags.py"
    result = airflow.start("bash", "-c", command, MILLRACE_STORAGE="s3a://millrace")
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout.strip().splitlines()[-1])
    # A file holds one DAG, of its own name.
    assert found == {"errors": {}, "dags": sorted(path.stem for path in (REPOSITORY / "dags").glob("*.py"))}
    assert airflow.output("airflow", "config", "get-value", "core", "dags_folder").endswith("/opt/airflow/dags")


def test_airflow_s_tasks_compute(airflow: Container) -> None:
    """The packages of which the image leaves a part out: what tasks use of them is there."""
    code = (
        "from sklearn.datasets import load_wine; from sklearn.ensemble import HistGradientBoostingClassifier as Model;"
        "import numpy.testing, pandas, pointblank, polars, scipy.stats;"
        "x, y = load_wine(return_X_y=True);"
        "print(Model(max_iter=5).fit(pandas.DataFrame(x), y).score(x, y) > 0.9)"
    )
    assert airflow.output("python", "-W", "ignore", "-c", code).splitlines()[-1] == "True"


def test_airflow_waits_for_a_database_in_vain(airflow: Container) -> None:
    nowhere = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql+psycopg://nobody@127.0.0.1:1/none"}
    result = airflow.start("scheduler", CONNECTION_CHECK_MAX_COUNT="1", CONNECTION_CHECK_SLEEP_TIME="0", **nowhere)
    assert result.returncode == 1
    assert "entrypoint: the metadata database did not answer" in result.stderr


def test_airflow_has_no_spark(airflow: Container) -> None:
    """Applications run in their own pods; a JVM's half gigabyte is nothing for each task's pod to pull."""
    assert airflow.execute("python", "-c", "import pyspark").returncode != 0
    assert airflow.execute("sh", "-c", "command -v java").returncode != 0


def test_spark_has_its_versions(spark: Container) -> None:
    assert spark.output("python", "-c", "import pyspark; print(pyspark.__version__)") == versions()["spark"]["version"]
    result = spark.start("spark-submit", "--version", **LOOPBACK)
    assert f"version {versions()['spark']['version']}" in result.stdout + result.stderr
    result = spark.start("java", "-version")
    assert f'version "{versions()["base_images"]["java"]}.' in result.stderr, result.stderr


def test_spark_has_the_locked_jars_and_no_artifact_twice(spark: Container) -> None:
    lines = spark.output("sh", "-c", "cd /opt/spark/jars && sha256sum *.jar").splitlines()
    found = {name: digest for digest, name in (line.split() for line in lines)}
    locked = [jar for jar in jars.read_lock() if jar.set_name in ("spark", "s3")]
    assert locked
    for jar in locked:
        assert found.get(jar.coordinate.file_name) == jar.sha256, jar.coordinate
    artifacts = [jar.coordinate.artifact for jar in locked]
    for artifact in artifacts:
        same = [name for name in found if re.fullmatch(rf"{re.escape(artifact)}-\d[\w.-]*\.jar", name)]
        assert len(same) == 1, same


def from_archive(spark: Container, log: str) -> float:
    """Which share of the classes that a Java of the image loaded, by its log of them, came from the class archive."""
    sources = [line.rpartition("source: ")[2] for line in spark.output("cat", log).splitlines() if "source: " in line]
    assert len(sources) > 1_000
    return sum(source.startswith("shared objects file") for source in sources) / len(sources)


def test_spark_runs_a_driver_from_the_class_archive(spark: Container, tmp_path: Path) -> None:
    """As Spark's scheduler starts it, but with its executors in the same process."""
    job = tmp_path / "job.py"
    job.write_text(SPARK_JOB)
    spark.put(job, "/tmp/job.py")
    options = ["--master", "local[2]", "--conf", "spark.ui.enabled=false", "--conf", "spark.driver.host=127.0.0.1"]
    for name, value in (
        ("spark.sql.shuffle.partitions", "1"),
        ("spark.databricks.delta.snapshotPartitions", "1"),
        ("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension"),
        ("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"),
    ):
        options += ["--conf", f"{name}={value}"]
    log = "/tmp/driver-classes"
    environment = LOOPBACK | {"SPARK_SUBMIT_OPTS": f"{QUICK_START} -Xlog:class+load:file={log}"}
    result = spark.start("driver", *options, "/tmp/job.py", SPARK_DRIVER_BIND_ADDRESS="127.0.0.1", **environment)
    assert result.returncode == 0, result.stderr[-3000:]
    # Not among them: what Java or Spark makes as it runs.
    assert from_archive(spark, log) > 0.6
    assert "total 9900" in result.stdout
    assert f"java {versions()['base_images']['java']}" in result.stdout
    assert result.stdout.count("class ") == 2


def test_spark_s_executor_starts_from_the_class_archive(spark: Container) -> None:
    """It finds no driver, and has loaded what it needs to look for one by then."""
    log = "/tmp/executor-classes"
    executor = EXECUTOR | {
        "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@127.0.0.1:1",
        "SPARK_EXECUTOR_POD_IP": "127.0.0.1",
        "SPARK_JAVA_OPT_0": QUICK_START,
        "SPARK_JAVA_OPT_1": f"-Xlog:class+load:file={log}",
    }
    result = spark.start("executor", **LOOPBACK, **executor)
    assert result.returncode != 0
    assert "127.0.0.1:1" in result.stdout + result.stderr
    assert from_archive(spark, log) > 0.6


def test_spark_has_the_apps(spark: Container) -> None:
    result = spark.start("python", "/opt/millrace/spark-apps/event-windows/app.py", "--help")
    assert result.returncode == 0, result.stderr
    assert "--settings" in result.stdout
    assert spark.output("ls", "/opt/millrace/contracts/topics.yaml")
    # Where Spark's scheduler mounts the driver's settings.
    assert spark.output("readlink", "--canonicalize-existing", "/opt/spark/conf").endswith("/pyspark/conf")


def test_spark_executor_says_what_is_missing(spark: Container) -> None:
    result = spark.start("executor")
    assert result.returncode == 2
    assert "SPARK_DRIVER_URL is not set" in result.stderr


def test_sbom_names_packages_of_every_kind(store: Store, tmp_path: Path) -> None:
    """Debian's, Python's and Java's; for the Spark image, which has them all."""
    settings = [f"SYFT={shutil.which('syft') or go_tool('syft')}", f"SBOM_DIRECTORY={tmp_path}"]
    store.run("env", *settings, str(REPOSITORY / "images" / "sbom.sh"), "spark", seconds=600)
    written = json.loads((tmp_path / "spark.cdx.json").read_text())
    assert written["bomFormat"] == "CycloneDX"
    found = {each["purl"].partition("?")[0] for each in written["components"] if "purl" in each}
    assert f"pkg:pypi/pyspark@{versions()['spark']['version']}" in found
    assert f"pkg:maven/org.apache.hadoop/hadoop-aws@{versions()['s3']['hadoop']}" in found
    assert any(each.startswith("pkg:deb/debian/tini@") for each in found)
