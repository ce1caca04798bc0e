"""Where the repository is."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
"""The root of the repository."""
