"""Backoff with full jitter, and the circuit breaker."""

import statistics

from ingest.feeds.breaker import Retry, RetrySettings, State

SETTINGS = RetrySettings(backoff_seconds=0.5, backoff_max_seconds=4.0, breaker_failures=4, breaker_open_seconds=60.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def longest(low: float, high: float) -> float:
    assert low == 0.0
    return high


def test_the_longest_wait_doubles_up_to_the_limit():
    retry = Retry(RetrySettings(0.5, 4.0, breaker_failures=1000), jitter=longest)
    waits = []
    for _ in range(6):
        retry.began()
        waits.append(retry.failed())
    assert waits == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    for _ in range(5000):  # a source that is away for days
        retry.failed()


def test_the_wait_is_drawn_from_the_whole_range():
    retry = Retry(RetrySettings(4.0, 4.0, breaker_failures=1_000_000))
    waits = [retry.failed() for _ in range(2000)]
    assert all(0 <= wait <= 4 for wait in waits)
    assert min(waits) < 0.2
    assert max(waits) > 3.8
    assert abs(statistics.mean(waits) - 2) < 0.3


def test_a_session_that_held_starts_again_from_the_shortest_wait_and_a_short_one_does_not():
    clock = Clock()
    retry = Retry(RetrySettings(0.5, 4.0, breaker_failures=1000), clock, longest)
    for held, wait in ((1, 0.5), (1, 1.0), (1, 2.0), (5, 0.5), (1, 1.0)):
        retry.began()
        clock.now += held
        assert retry.ended() == wait


def test_failures_in_a_row_open_the_breaker_and_one_attempt_closes_it_or_opens_it_again():
    retry = Retry(SETTINGS, Clock(), longest)
    for _ in range(3):
        retry.began()
        assert retry.failed() <= 4.0
        assert retry.state is State.CLOSED
    assert retry.failed() == 60.0
    assert retry.state is State.OPEN
    retry.began()
    assert retry.state is State.HALF_OPEN
    assert retry.failed() == 60.0
    assert retry.state is State.OPEN
    retry.began()
    retry.succeeded()
    assert retry.state is State.CLOSED
    retry.began()
    assert retry.failed() <= 4.0  # it counts from the beginning
    assert retry.state is State.CLOSED


def test_a_success_between_failures_keeps_the_breaker_closed():
    retry = Retry(SETTINGS, Clock(), longest)
    for _ in range(20):
        retry.began()
        retry.failed()
        retry.succeeded()
    assert retry.state is State.CLOSED
