"""PostgreSQL's server programs, for tests that run a real one."""

import os
import pwd
import shutil
from pathlib import Path
from typing import Any


def find(program: str) -> str | None:
    """Return the path of a program of PostgreSQL: on the PATH, or where Debian puts it. None if there is none."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    return shutil.which(program) or (str(debian[-1]) if debian else None)


def unprivileged() -> dict[str, Any]:
    """Return what makes subprocess.run use another user, where this one is root: the server refuses to run as root."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid}
