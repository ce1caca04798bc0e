"""How long things took: collected while the tests run, shown at their end, kept for benchmarks/RESULTS.md."""

import json
import statistics
from datetime import UTC, datetime
from pathlib import Path

from embedded.settings import load_settings


class Times:
    """Seconds by what took them, in the order in which they are to be shown."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def note(self, what: str, seconds: float) -> None:
        """Take one measurement over."""
        self.seconds.setdefault(what, []).append(round(seconds, 2))

    def lines(self) -> list[str]:
        """Return a table, one line for each thing that was measured."""
        width = max(map(len, self.seconds), default=0)
        return [
            f"{what:<{width}}  {statistics.median(found):7.1f} s"
            + (f"  ({min(found):.1f} to {max(found):.1f}, {len(found)} times)" if len(found) > 1 else "")
            for what, found in self.seconds.items()
        ]

    def write(self, kind: str) -> Path:
        """Keep the times of this session, in a cluster of this kind, in place of those of earlier ones."""
        path = load_settings().home / "cluster" / "times.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "cluster": kind, "seconds": self.seconds}
        path.write_text(json.dumps(content, indent=1) + "\n")
        return path
