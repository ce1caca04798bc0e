"""Writes the chart's README.md from README.md.gotmpl and the comments in values.yaml: `make chart-docs`."""

import subprocess
import sys

import pytest

from tests.charts.render import CHART
from tests.go_tools import go_tool

README = CHART / "README.md"


def text() -> str:
    """Return what the README should be, as helm-docs makes it."""
    command = [str(go_tool("helm-docs")), "--chart-search-root", str(CHART), "--sort-values-order", "file", "--dry-run"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return result.stdout.rstrip() + "\n"


def main() -> int:
    """Write it; returns the exit status."""
    try:
        README.write_text(text())
    except (pytest.skip.Exception, pytest.fail.Exception) as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
