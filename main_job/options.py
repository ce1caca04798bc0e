"""Which recorded flights the main job replays, and how fast."""

import argparse
import math
from dataclasses import dataclass
from datetime import date
from typing import Any


class RangeError(ValueError):
    """The days asked for are not among the recorded ones; the message is one sentence that says what to choose."""


@dataclass(frozen=True)
class RunOptions:
    """What to replay."""

    from_date: str
    days: int
    pace: float
    resume: bool

    @property
    def parameters(self) -> dict[str, Any]:
        """As parameters of the DAG."""
        mode = "resume" if self.resume else "restart"
        return {"from_date": self.from_date, "days": self.days, "pace": self.pace, "mode": mode}


def add_options(command: argparse.ArgumentParser) -> None:
    """Add --from, --days, --pace and --resume to a command."""
    command.add_argument("--from", dest="from_date", default="2013-01-01", type=_date, help="first day, in 2013")
    command.add_argument("--days", default=31, type=_days, help="how many days (default 31)")
    command.add_argument("--pace", default=0.0, type=_pace, help="0: as fast as possible; N: N times real time")
    command.add_argument("--resume", action="store_true", help="go on where the last run of the same days ended")


def chosen(options: argparse.Namespace) -> RunOptions:
    """Return what was given for `add_options`. Raises RangeError for days outside of the recorded year."""
    first = options.from_date
    last = date.fromordinal(first.toordinal() + options.days - 1)
    if first.year != 2013 or last.year != 2013:
        raise RangeError(
            f"--from {first} with --days {options.days} ends on {last}, but the recorded flights are those of 2013: "
            "choose days within that year."
        )
    return RunOptions(first.isoformat(), options.days, options.pace, options.resume)


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date: write it as 2013-01-31") from None


def _days(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 365:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 1 to 365")
    return int(text)


def _pace(text: str) -> float:
    try:
        pace = float(text)
    except ValueError:
        pace = math.nan
    if not 0 <= pace < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a pace: 0 for as fast as possible, N for N times real time")
    return pace
