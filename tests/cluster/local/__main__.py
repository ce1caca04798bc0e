"""Start a local cluster and keep it: `python -m tests.cluster.local`; Ctrl-C ends it and leaves nothing."""

import argparse
import shlex
import signal
import sys
from pathlib import Path

from tests.cluster.definitions import all_definitions
from tests.cluster.images import store_folder
from tests.cluster.layout import Layout
from tests.cluster.local.node import Node, local_node, prepare_programs, why_not


def main() -> int:
    """Start, say how to get in, wait for the end."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.local", description=__doc__)
    parser.add_argument("--images", action="store_true", help="with the images that tests.cluster.images has built")
    parser.add_argument("--enter", type=Path, help="write a script that runs a command in the cluster's network there")
    parser.add_argument("--bare", action="store_true", help="without the definitions of the operators' kinds")
    options = parser.parse_args()
    if reason := why_not():
        sys.stderr.write(f"No cluster can be started here: it {reason}.\n")
        return 2
    # The end that `kill` asks for is as orderly as Ctrl-C, at any moment.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        keep(options)
    except KeyboardInterrupt:
        sys.stdout.write("Ended; nothing is left.\n")
    return 0


def keep(options: argparse.Namespace) -> None:
    """Start the cluster and keep it until KeyboardInterrupt."""
    # What has to be fetched is fetched before there is no network.
    definitions = [] if options.bare else all_definitions()
    prepare_programs()
    with local_node() as node:
        if options.images:
            node.load(Layout(store_folder() / "layout"))
        if definitions:
            node.define(definitions)
        script = options.enter or node.folder / "enter"
        write_script(node, script)
        sys.stdout.write(f"Ready. {script} kubectl get pods -A    Ctrl-C ends it.\n")
        sys.stdout.flush()
        while True:
            signal.pause()


def write_script(node: Node, path: Path) -> None:
    """Write a script that runs a command with the cluster's network, kubectl, helm and kubeconfig."""
    environment = " ".join(f"{name}={shlex.quote(value)}" for name, value in node.environment.items())
    path.write_text(f'#!/bin/sh\nexec nsenter --net={node.namespaces.network} -- env {environment} "$@"\n')
    path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
