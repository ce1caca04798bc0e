"""Control groups of the node's pods: one tree, in each hierarchy that this machine has."""

import contextlib
import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
SINGLE = {"unified"}
"""Hierarchies of version 2 beside those of version 1: no controller is there."""


def hierarchies() -> list[Path]:
    """Return where control groups are made: one place in version 2, one for each controller in version 1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return sorted({path.resolve() for path in ROOT.iterdir() if path.is_dir() and path.name not in SINGLE})


def make(name: str) -> None:
    """Make the group."""
    for place in hierarchies():
        group = place / name
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            # A group of version 1 takes in no process before these are set.
            if (group / file).exists():
                (group / file).write_text((place / file).read_text())
        if place == ROOT:
            wanted = (ROOT / "cgroup.controllers").read_text().split()
            with contextlib.suppress(OSError):
                (ROOT / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in wanted))


def remove(name: str) -> None:
    """Remove the group and all below it; its processes must have ended."""
    for place in hierarchies():
        for folder, _, _ in os.walk(place / name, topdown=False):
            with contextlib.suppress(FileNotFoundError):
                Path(folder).rmdir()
