"""Build all that a local cluster is made of, while registries can be reached: `python -m tests.cluster.prepare`.

What tests of the images need beside, syft, is built last.
"""

import sys
import time

import pytest

from embedded.errors import UserError
from tests.cluster.images import made
from tests.cluster.layout import Layout
from tests.cluster.local.node import prepare_programs, why_not
from tests.go_tools import go_tool
from tests.images.builder import BuildError


def prepare() -> Layout:
    """Build the node's programs and the images; return where the images are. What is built already takes seconds.

    Raises:
        BuildError: an image can't be built.
    """
    began = time.monotonic()
    prepare_programs()
    sys.stdout.write(f"{'programs':28} {time.monotonic() - began:6.1f} s\n")
    return made()


def main() -> int:
    """Prepare, and say how long each part took."""
    if reason := why_not():
        sys.stderr.write(f"Nothing was built, because no cluster can be started here: it {reason}.\n")
        return 2
    try:
        prepare()
        go_tool("syft")
    except (BuildError, UserError, pytest.skip.Exception, pytest.fail.Exception) as error:
        sys.stderr.write(f"prepare: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
