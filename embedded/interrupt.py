"""Turn the first Ctrl-C or SIGTERM into an orderly end, and let no later one disturb that."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user or the system asked for the end. Not an Exception, so that no handler of errors swallows it."""


class Guard:
    """Installs the handlers. After `until_clean_up` or `disarm` a signal only repeats the message."""

    def __init__(self) -> None:
        self.interrupted = False
        self._armed = True
        for number in SIGNALS:
            signal.signal(number, self._handle)

    @contextmanager
    def until_clean_up(self) -> Iterator[None]:
        """Let a signal end the block by `Interrupted`, and none disturb what comes after it."""
        try:
            yield
        except Exception:
            # C code may put an error of its own in the place of what a handler raises in the midst of it:
            # confluent_kafka says that a property's name is no string.
            self.check()
            raise
        finally:
            self.disarm()

    def check(self) -> None:
        """Raise Interrupted if a signal came: a library may have swallowed the one that the handler raised."""
        if self.interrupted:
            raise Interrupted from None

    def disarm(self) -> None:
        """Let later signals only say that the end is under way."""
        self._armed = False

    def close(self) -> None:
        """Ignore signals from now on: nothing is left to end but this process, which must keep its exit status."""
        self._armed = False
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._armed:
            self._armed = False
            self.interrupted = True
            raise Interrupted
        # Not print(): the signal may arrive in the middle of one.
        if number == signal.SIGINT:
            message = b"\nStopping already; it takes some seconds, so that nothing is left running or half written.\n"
            os.write(2, message)
