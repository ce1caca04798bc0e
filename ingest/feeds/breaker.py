"""When to try a source again: exponential backoff with full jitter, and a circuit breaker over it."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """State of a circuit breaker; the numbers are those of the metric `ingest_breaker_state`."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True)
class RetrySettings:
    """How often a source that fails is tried; times in seconds."""

    backoff_seconds: float = 0.5
    """Longest wait after the first failure; it doubles with each further one."""
    backoff_max_seconds: float = 30.0
    """The wait grows no longer than this. A session that held longer starts again from the shortest."""
    breaker_failures: int = 5
    """So many failures in a row open the breaker."""
    breaker_open_seconds: float = 60.0
    """An open breaker lets one attempt through after this time."""


class Retry:
    """The breaker of one source and the waits between attempts. Not for several threads."""

    def __init__(
        self,
        settings: RetrySettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._settings, self._clock, self._jitter = settings or RetrySettings(), clock, jitter
        self._failures = 0  # in a row: opens the breaker
        self._attempts = 0  # since a session held: lengthens the wait
        self._state = State.CLOSED
        self._began = 0.0

    @property
    def state(self) -> State:
        """What the breaker lets through: all, one attempt, nothing."""
        return self._state

    def began(self) -> None:
        """Note that an attempt is made; an open breaker is half-open while it lasts."""
        self._began = self._clock()
        if self._state is State.OPEN:
            self._state = State.HALF_OPEN

    def succeeded(self) -> None:
        """Note that the source works: closes the breaker."""
        self._failures = 0
        self._state = State.CLOSED

    def failed(self) -> float:
        """Note that an attempt or a session failed; return the seconds to wait before the next."""
        self._failures += 1
        if self._state is State.HALF_OPEN or self._failures >= self._settings.breaker_failures:
            self._state = State.OPEN
            return self._settings.breaker_open_seconds
        return self.ended()

    def ended(self) -> float:
        """Note that a session ended, in good order or not; return the seconds to wait before the next."""
        longest = self._settings.backoff_max_seconds
        if self._clock() - self._began > longest:
            self._attempts = 0
        # Limited before it is used as a power: a source may be away for days.
        wait = min(longest, self._settings.backoff_seconds * 2 ** min(self._attempts, 30))
        self._attempts += 1
        return self._jitter(0.0, wait)
