"""``clean``: remove what the runs made."""

import shutil
import sys
from pathlib import Path

from embedded.errors import UserError
from embedded.instance import claim
from embedded.settings import Settings

PARTS = {
    "storage": "checkpoints, tables and reports",
    "kafka": "Kafka's topics",
    "airflow": "Airflow's database, secrets and history",
    "apps": "what applications and jobs last said",
    "logs": "logs",
    "tools": "programs that the tests built (built again when needed)",
    "images": "images that the tests built (built again when needed)",
    "cluster": "times of the last run in a cluster",
    "jars": "Kafka's and Spark's jars (downloaded again when needed)",
}
"""What we make in MILLRACE_HOME; nothing else in there is touched."""


def clean(settings: Settings, yes: bool) -> int:
    """List what is there, ask, remove it. Returns 0 if it was removed or there was nothing.

    Raises:
        UserError: an instance is running, or there is nobody to ask.
    """
    present = [settings.home / name for name in PARTS if (settings.home / name).exists()]
    if not present:
        print(f"There is nothing to remove in {settings.home}.")
        return 0
    with claim(settings, "clean"):
        present = [path for path in present if path.exists()]
        for path in present:
            print(f"{_size(path) / 2**20:9,.0f} MiB  {path}  {PARTS[path.name]}")
        if not yes:
            if not sys.stdin.isatty():
                raise UserError("Nothing was removed, because nobody can be asked here: say `make clean YES=1`.", 2)
            try:
                answer = input("Remove all of this? [y/N] ")
            except EOFError:
                answer = ""
            if answer.strip().lower() not in ("y", "yes"):
                print("Nothing was removed.")
                return 1
        for path in present:
            _remove(path)
    (settings.home / "lock").unlink(missing_ok=True)
    if not any(settings.home.iterdir()):
        settings.home.rmdir()
    print("Removed.")
    return 0


def _remove(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise UserError(f"{error.filename} can't be removed ({error.strerror}): remove {path} yourself.") from None


def _size(path: Path) -> int:
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_file() or file.is_symlink())
