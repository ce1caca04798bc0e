"""Checkpoints, tables, control files and reports on MILLRACE_STORAGE, whatever storage that is."""

import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from millrace.config import Settings, load_settings
from millrace.errors import MillraceError

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def url(*parts: str, settings: Settings | None = None) -> str:
    """Return the URL of something below MILLRACE_STORAGE."""
    return "/".join([(settings or load_settings()).require_storage(), *parts])


def path(*parts: str, settings: Settings | None = None) -> "ObjectStoragePath":
    """Return an Airflow object storage path below MILLRACE_STORAGE."""
    from airflow.sdk import ObjectStoragePath

    # Hadoop says s3a where everybody else says s3.
    return ObjectStoragePath(re.sub(r"^s3a://", "s3://", url(*parts, settings=settings)))


def local_file(address: str) -> str:
    """Return what to show a person: the plain path of a file:// URL, any other address as it is."""
    split = urlsplit(address)
    return unquote(split.path) if split.scheme == "file" else address


def table_url(table: str, settings: Settings | None = None) -> str:
    """Return the URL of a Delta table, as the deltalake library takes it."""
    return re.sub(r"^s3a://", "s3://", url("tables", table, settings=settings))


def delta_options(table_url: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what the deltalake library needs besides the table's URL to reach its storage.

    S3's endpoint and keys come from the environment, in the names that every client of AWS knows; deltalake reads them
    too, except the endpoint of this one service, and it refuses an endpoint without TLS unless told to.
    """
    endpoint = environ.get("AWS_ENDPOINT_URL_S3")
    if not (table_url.startswith("s3://") and endpoint):
        return {}
    return {"aws_endpoint": endpoint, "aws_allow_http": str(endpoint.startswith("http://")).lower()}


def stop_file(application: str, settings: Settings | None = None) -> "ObjectStoragePath":
    """Return the control file whose presence asks an application to stop."""
    return path("control", application, "stop", settings=settings)


def run_folder(run_id: str) -> str:
    """Return the folder of a run below `reports/`: its id, with `_` for what a path can't hold."""
    return re.sub(r"[^A-Za-z0-9_.:+-]", "_", run_id)


def exists(*parts: str) -> bool:
    """True if there is a file or a non-empty folder at that place."""
    return path(*parts).exists()


def delete_tree(*parts: str) -> bool:
    """Delete a file or folder; return whether there was one. Raises MillraceError if the storage refuses."""
    target = path(*parts)
    try:
        if not target.exists():
            return False
        if target.is_dir():
            target.rmdir(recursive=True)
        else:
            target.unlink()
    except OSError as error:
        raise MillraceError(f"Cannot delete {target}: {error}; check the rights on that storage.") from error
    return True


def write_text(text: str, *parts: str) -> str:
    """Write a file, making its folder; return its URL. Raises MillraceError if the storage refuses."""
    return write_bytes(text.encode(), *parts)


def write_bytes(content: bytes, *parts: str) -> str:
    """Write a file, as `write_text` does."""
    target = path(*parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written beside and moved, so that whoever polls for the file never reads half of it.
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(content)
        partial.replace(target)
    except OSError as error:
        raise MillraceError(f"Cannot write {target}: {error}; check the rights and space of that storage.") from error
    return url(*parts)


def read_bytes(*parts: str) -> bytes:
    """Return what a file holds. Raises MillraceError if there is none, or it can't be read."""
    target = path(*parts)
    try:
        return target.read_bytes()
    except FileNotFoundError:
        raise MillraceError(f"There is no {target}: run what writes it first.") from None
    except OSError as error:
        raise MillraceError(f"Cannot read {target}: {error}; check the rights on that storage.") from error


def write_json(value: Any, *parts: str) -> str:
    """Write a JSON file; return its URL."""
    return write_text(json.dumps(value, indent=1, default=str), *parts)


def read_json(*parts: str) -> Any:
    """Return what a JSON file holds, or None if there is no such file.

    Raises MillraceError if it isn't JSON.
    """
    target = path(*parts)
    try:
        return json.loads(target.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise MillraceError(f"{target} is not JSON ({error}): delete it, or restore it.") from error
