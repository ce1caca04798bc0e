"""Build all that a local cluster is made of, while registries can be reached: `python -m tests.cluster.prepare`.

What tests of the images need beside, syft, is built last.
"""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from embedded.errors import UserError
from tests.cluster.images import NAMES, PROGRAMS, made
from tests.cluster.layout import Layout
from tests.cluster.local.node import prepare_programs, why_not
from tests.go_tools import GO_TOOLS, go_tool
from tests.images.builder import BuildError


def prepare() -> Layout:
    """Build the node's programs and the images; return where the images are. What is built already takes seconds.

    Go's compiler is busy with two cores, what goes into images mostly with one, and waits: so both go on at once.

    Raises:
        BuildError: an image can't be built.
    """
    with ThreadPoolExecutor(1) as pool:
        programs = pool.submit(_programs)
        made([name for name in NAMES if name not in PROGRAMS])
        programs.result()
    return made(tuple(PROGRAMS))


def _programs() -> None:
    began = time.monotonic()
    prepare_programs()
    for name in set(PROGRAMS.values()) & set(GO_TOOLS):
        go_tool(name)
    sys.stdout.write(f"{'programs':28} {time.monotonic() - began:6.1f} s\n")
    sys.stdout.flush()


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
