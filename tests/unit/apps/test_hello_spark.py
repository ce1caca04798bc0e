"""hello-spark: its primes, its settings, and what it refuses."""

from pathlib import Path

import pytest

from millrace.primes import difference
from streamkit.session import spark_conf
from streamkit.settings import SettingsError, load_batch_settings

APP = Path(__file__).parents[3] / "spark-apps/hello-spark"
ENVIRONMENT = {"MILLRACE_STORAGE": "s3a://bucket"}


def settings(*overrides: str):
    return load_batch_settings(APP / "settings.yaml", overrides, ENVIRONMENT)


@pytest.mark.parametrize(
    ("limit", "segments", "primes", "largest"),
    [(10, 1, 4, 7), (30, 4, 10, 29), (1000, 7, 168, 997), (100_000, 10, 9592, 99_991)],
)
def test_primes_are_those_that_everybody_knows(app, spark, limit, segments, primes, largest):
    rows = [row.asDict() for row in app("hello-spark").count_primes(spark, limit, segments).collect()]
    assert [row["segment"] for row in rows] == list(range(segments))
    assert sum(row["primes"] for row in rows) == primes
    assert max(row["largest"] or 0 for row in rows) == largest
    assert difference(rows, limit) == ""


def test_a_segment_without_a_prime_says_so(app, spark):
    rows = app("hello-spark").count_primes(spark, 126, 8).collect()
    assert [(row["first"], row["last"], row["largest"]) for row in rows if not row["primes"]] == [(114, 126, None)]
    assert sum(row["primes"] for row in rows) == 30


def test_the_settings_are_those_promised():
    assert settings().table.path == "s3a://bucket/tables/primes"
    assert settings().parameters == {"limit": "1000000", "segments": "10"}
    conf = spark_conf(settings())
    assert conf["spark.sql.extensions"].startswith("io.delta.")
    assert conf["spark.hadoop.fs.s3a.endpoint.region"] == "us-east-1"
    assert not [name for name in conf if "streaming" in name]


@pytest.mark.parametrize("value", ["9", "many", "1e6", "100000001", ""])
def test_a_bad_limit_is_one_sentence(app, spark, value):
    with pytest.raises(SettingsError, match=r"parameters.limit"):
        app("hello-spark").build(spark, settings(f"parameters.limit={value!r}"))
