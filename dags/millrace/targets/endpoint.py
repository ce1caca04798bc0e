"""Asks a driver over HTTP how far it has come; the same on every target."""

import http.client
import json
import urllib.request
from typing import Any

from millrace.errors import MillraceError

HTTP_TIMEOUT = 5.0
"""Seconds for a driver to answer."""


def driver_progress(name: str, base: str | None, last: int | None = None) -> dict[str, Any]:
    """Return the `/progress` document of an application's driver.

    `base` is its address, None if it has none now; of each query only the `last` newest batches are asked for, if
    given. Raises MillraceError while no driver answers.
    """
    if base is None:
        raise MillraceError(f"{name} has no running driver, so it reports no progress: see its log.")
    address = f"{base}/progress" + (f"?last={last}" if last else "")
    try:
        with urllib.request.urlopen(address, timeout=HTTP_TIMEOUT) as response:  # noqa: S310 - our own http:
            return json.load(response)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise MillraceError(f"The driver of {name} does not answer at {address} ({error}): see its log.") from error
