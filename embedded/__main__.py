"""Entry point of ``python -m embedded``."""

import signal
import sys


def _leave(number: int, frame: object) -> None:
    # Nothing has been started yet: the imports below take some tenths of a second, and a Ctrl-C in them is no error.
    sys.exit(130)


if __name__ == "__main__":
    for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_number, _leave)
    from embedded.cli import main

    sys.exit(main())
