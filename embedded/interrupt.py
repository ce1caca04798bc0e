"""Turn the first Ctrl-C or SIGTERM into an orderly end, and let no later one disturb that."""

import os
import signal
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """The user or the system asked for the end. Not an Exception, so that no handler of errors swallows it."""


class Guard:
    """Installs the handlers. `disarm` before the clean-up: from then on a signal only repeats the message."""

    def __init__(self) -> None:
        self.interrupted = False
        self._armed = True
        for number in SIGNALS:
            signal.signal(number, self._handle)

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
