"""Signals and the orderly end, with libraries that get in between."""

import contextlib
import signal
from collections.abc import Iterator

import pytest

from embedded.interrupt import SIGNALS, Guard, Interrupted


@pytest.fixture
def guard() -> Iterator[Guard]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield Guard()
    for number, handler in before.items():
        signal.signal(number, handler)


def ask_for_the_end_in_c_code() -> None:
    """As confluent_kafka does: whatever is raised while it reads its settings becomes an error of its own."""
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:
        raise TypeError("expected configuration property name as type unicode string") from None


def test_an_interruption_that_a_library_turned_into_an_error_is_still_one(guard: Guard) -> None:
    with pytest.raises(Interrupted), guard.until_clean_up():
        ask_for_the_end_in_c_code()


def test_an_error_without_a_signal_stays_that_error(guard: Guard) -> None:
    with pytest.raises(TypeError, match="a mistake"), guard.until_clean_up():
        raise TypeError("a mistake")


def test_an_interruption_that_a_library_swallowed_is_found_at_the_next_look(guard: Guard) -> None:
    def work() -> None:
        with contextlib.suppress(TypeError):
            ask_for_the_end_in_c_code()
        guard.check()

    guard.check()
    with pytest.raises(Interrupted), guard.until_clean_up():
        work()


def test_no_signal_disturbs_the_clean_up(guard: Guard, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted), guard.until_clean_up():
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
    assert capfd.readouterr().err.count("Stopping already") == 1
