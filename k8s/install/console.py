"""What is said to the user while it runs, one line for each thing."""

import sys
from datetime import datetime


def say(message: str) -> None:
    """Print one line, at once; with the time where nobody watches it live."""
    clock = "" if sys.stdout.isatty() else f"{datetime.now():%H:%M:%S} "
    print(f"{clock}{message}", flush=True)


def confirmed(question: str) -> bool:
    """Ask, and return whether the answer was yes. No answer is a no."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
