"""Wait for what a cluster takes its time for."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooLongError(Exception):
    """Something did not come to be within its time; the message says what, and how things stood at the end."""


def eventually(
    look: Callable[[], T | None], what: str, seconds: float, *, every: float = 0.5, else_: Callable[[], object] = str
) -> T:
    """Look again and again until there is something to see; return it.

    Args:
        look: returns something true once it is there.
        what: is waited for, for the message.
        seconds: to wait at most.
        every: seconds between two looks.
        else_: returns what the message says of how things stand instead.

    Raises:
        TooLongError: it is not there in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() >= deadline:
            raise TooLongError(f"Waited {seconds:.0f} s in vain for {what}. {else_()}".strip())
        time.sleep(every)
