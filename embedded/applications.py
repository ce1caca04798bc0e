"""Stop the applications and jobs that pipelines started, when the whole is taken down."""

import signal
import time
from collections.abc import Callable
from typing import Any

import httpx

from embedded.settings import Settings
from millrace.targets.state import AppDirectory, is_held, signal_group

STOP_SECONDS = 30.0
"""For a stream to finish its batch. What has not ended by then is ended by its process."""


def running_applications(settings: Settings) -> list[AppDirectory]:
    """The applications and jobs that run now."""
    return [AppDirectory(path.parent) for path in sorted(settings.apps.glob("*/lock")) if is_held(path)]


def _is_streaming(status: dict[str, Any]) -> bool:
    """Whether a driver has begun its queries, so that it looks at its control file."""
    try:
        url = f"{status['metrics_url']}/progress"
        queries = httpx.get(url, params={"last": 1}, timeout=2, trust_env=False).json()["queries"]
    except (KeyError, ValueError, TypeError, httpx.HTTPError):
        return False
    return any(query.get("active") for query in queries)


def stop_applications(settings: Settings, say: Callable[[str], None], seconds: float = STOP_SECONDS) -> None:
    """Ask every running application and job to end, and wait: a stream finishes its batch, a job gets SIGTERM."""
    running = running_applications(settings)
    if not running:
        return
    say(f"Stopping {', '.join(directory.path.name for directory in running)}.")
    for directory in running:
        status = directory.read_status()
        # Keeps its supervisor from starting it again.
        directory.stop.touch()
        if status.get("kind") == "application" and settings.storage and _is_streaming(status):
            control = settings.storage / "control" / directory.path.name / "stop"
            control.parent.mkdir(parents=True, exist_ok=True)
            control.touch()
        else:
            # A job ends by itself then; a driver that is still starting has no batch to finish.
            signal_group(status.get("driver"), signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(is_held(directory.lock) for directory in running):
        time.sleep(0.1)
    for directory in running:
        if is_held(directory.lock):
            say(f"{directory.path.name} did not stop within {seconds:.0f} s; its last batch will be done again.")
