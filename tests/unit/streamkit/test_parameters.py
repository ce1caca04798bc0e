"""What an app's own parameters may be."""

import pytest

from streamkit.parameters import day, integer, text
from streamkit.settings import BatchSettings, DeltaSinkSettings, SettingsError


def settings(**parameters: str) -> BatchSettings:
    return BatchSettings("app", DeltaSinkSettings("file:///table"), parameters)


def test_a_parameter_is_what_it_is_asked_for_as():
    found = settings(count="7", from_day="2026-01-31", word="yes")
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
        read(settings(it=value), "it")
