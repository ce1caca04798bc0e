"""Live feeds: what a source sends becomes messages of a topic's contract, or dead letters with their reason."""

from pathlib import Path

DEFAULT_FILE = Path(__file__).resolve().parent.parent / "feeds.yaml"
"""The settings that come with the package."""
