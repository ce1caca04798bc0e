"""What an app's own parameters may be."""

from pathlib import Path

import pytest

from streamkit.parameters import day, integer, number, text
from streamkit.settings import BatchSettings, DeltaSinkSettings, SettingsError, load_settings

REPOSITORY = Path(__file__).parents[3]
ENVIRONMENT = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "MILLRACE_STORAGE": "file:///nowhere"}


def given(**parameters: str) -> BatchSettings:
    return BatchSettings("app", DeltaSinkSettings("file:///table"), parameters)


def test_a_parameter_is_what_it_is_asked_for_as():
    found = given(count="7", from_day="2026-01-31", word="yes")
    assert integer(found, "count", 0, 10) == 7
    assert day(found, "from_day").isoformat() == "2026-01-31"
    assert text(found, "word") == "yes"


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        (text, "", "is missing"),
        (day, "tomorrow", "expected a date"),
        (lambda found, name: integer(found, name, 1, 5), "6", "from 1 to 5"),
        (lambda found, name: integer(found, name, 1, 5), "0", "from 1 to 5"),
        (lambda found, name: integer(found, name, 0, 5), "1.5", "from 0 to 5"),
    ],
)
def test_anything_else_is_one_sentence_with_its_name(read, value, words):
    with pytest.raises(SettingsError, match=rf"parameters.it: .*{words}"):
        read(given(it=value), "it")


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
