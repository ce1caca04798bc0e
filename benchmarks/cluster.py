"""`python -m benchmarks.cluster`: puts the times that the cluster's tests kept into benchmarks/RESULTS.md."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import table
from embedded.settings import load_settings

KINDS = {
    "local": "one node on this machine, stand-ins for others' charts",
    "kind": "kind on this machine",
    "existing": "a cluster elsewhere",
}


def main() -> int:
    """Replace the section; return the exit status."""
    path = load_settings().home / "cluster" / "times.json"
    try:
        kept = json.loads(path.read_text())
    except FileNotFoundError:
        print(f"There is no {path}: the cluster's tests write it at their end (`make test-cluster`).", file=sys.stderr)
        return 1
    table.put(table.CLUSTER, lines(kept))
    print(f"written: {table.RESULTS}")
    return 0


def lines(kept: Mapping[str, Any]) -> list[str]:
    """Return the section: one row for each thing that was measured, all of one session of tests."""
    seconds: Mapping[str, Sequence[float]] = kept["seconds"]
    written = f"Measured by `make test-cluster` on {kept['date']}: {KINDS[kept['cluster']]}. {table.hardware()}."
    rows = [table.Row(table.CLUSTER, what, "s", found) for what, found in seconds.items()]
    return [written, "", *table.markdown(rows)]


if __name__ == "__main__":
    sys.exit(main())
