from pathlib import Path

import pytest

from streamkit.parameters import number
from streamkit.settings import SettingsError, load_settings

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "file:///nowhere"}


def settings(*overrides: str):
    return load_settings(REPOSITORY / "spark-apps/air-quality/settings.yaml", overrides, ENVIRONMENT)


def test_a_parameter_is_a_number_however_yaml_reads_it():
    assert number(settings("parameters.pm25_limit=15"), "pm25_limit") == 15.0
    assert number(settings("parameters.pm25_limit='12.5'"), "pm25_limit") == 12.5


@pytest.mark.parametrize("value", ["much", "nan", "inf", "''"])
def test_what_is_no_number_is_one_clear_sentence(value):
    with pytest.raises(SettingsError, match="parameters.pm25_limit: '.*': expected a number"):
        number(settings(f"parameters.pm25_limit={value}"), "pm25_limit")


def test_a_missing_parameter_is_named():
    with pytest.raises(SettingsError, match="parameters.colour: is missing: add it"):
        number(settings(), "colour")
