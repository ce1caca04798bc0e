"""Settings from the environment."""

from datetime import timedelta
from pathlib import Path

import pytest

from millrace.config import load_settings, retry_delay
from millrace.errors import MillraceError


def test_defaults() -> None:
    settings = load_settings({})
    assert settings.target == "embedded"
    assert (settings.root / "contracts" / "topics.yaml").is_file()
    assert (settings.home, settings.storage_url, settings.spark_jars) == (None, None, None)


def test_values() -> None:
    environ = {"MILLRACE_HOME": "/h", "MILLRACE_STORAGE": "s3a://b/p/", "MILLRACE_ROOT": "/r"}
    settings = load_settings({**environ, "MILLRACE_SPARK_JARS": "/j"})
    assert (settings.home, settings.root, settings.spark_jars) == (Path("/h"), Path("/r"), Path("/j"))
    assert settings.storage_url == "s3a://b/p"


def test_retry_delay() -> None:
    assert retry_delay({}) == timedelta(minutes=5)
    assert retry_delay({"MILLRACE_RETRY_DELAY_SECONDS": "2.5"}) == timedelta(seconds=2.5)


@pytest.mark.parametrize("text", ["soon", "0", "-1", "inf", "nan"])
def test_bad_retry_delay(text: str) -> None:
    with pytest.raises(MillraceError, match="MILLRACE_RETRY_DELAY_SECONDS"):
        retry_delay({"MILLRACE_RETRY_DELAY_SECONDS": text})
