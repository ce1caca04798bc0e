"""Writes a pipeline whole, or not at all."""

import contextlib
import os
from pathlib import Path

from new_pipeline.errors import PipelineError
from new_pipeline.layout import Layout


def write(layout: Layout, root: Path) -> None:
    """Write all files of a pipeline.

    Raises PipelineError if one can't be written; then, as if it is interrupted, what was there before is there again.
    """
    made: list[Path] = []
    before = {path: (root / path).read_bytes() for path in layout.changed}
    try:
        for path, content in layout.new.items():
            _make_folders((root / path).parent, made)
            made.append(root / path)
            # "x": a file that somebody else makes at this moment is not overwritten.
            with (root / path).open("x", encoding="utf-8") as file:
                file.write(content)
        for path, content in layout.changed.items():
            _replace(root / path, content.encode())
    except BaseException as error:
        if isinstance(error, FileExistsError):
            made.pop()  # It isn't ours.
        for path, old in before.items():
            with contextlib.suppress(OSError):
                if (root / path).read_bytes() != old:
                    _replace(root / path, old)
        for each in reversed(made):
            with contextlib.suppress(OSError):
                each.rmdir() if each.is_dir() else each.unlink()
        if isinstance(error, OSError):
            where = error.filename or root
            message = (
                f"{layout.name} is not laid down: {where} can't be written ({error.strerror}); nothing is changed."
            )
            raise PipelineError(message) from None
        raise


def _make_folders(folder: Path, made: list[Path]) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir()
        made.append(each)


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
