"""What the modules of commands are given by the command line in `__main__`."""

import argparse
from collections.abc import Callable
from typing import Any

from ingest.kafka import ProducerSettings
from ingest.progress import Progress
from ingest.sender import StopRequest

Command = Callable[[argparse.Namespace, StopRequest], dict[str, Any]]
"""Runs a command until its end or a stop; returns the summary."""
AddFeed = Callable[[Any, str, str, str, str], argparse.ArgumentParser]
"""Adds a command with every feed's options: sub-commands, name, help, examples and default topic."""
Producer = Callable[[argparse.Namespace], ProducerSettings]
"""Reads the options that tell how to send."""
Connect = Callable[[argparse.Namespace], tuple[ProducerSettings, Progress]]
"""The same, and what counts; serves the metrics if they are asked for."""
Instant = Callable[[str], float]
"""Reads a time, in seconds since 1970."""
