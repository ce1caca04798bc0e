"""An app's own parameters: text in settings.yaml, checked where they are used."""

import math

from streamkit.settings import AppSettings, SettingsError


def number(settings: AppSettings, name: str) -> float:
    """Return a parameter as a number. Raises SettingsError, one sentence that names it."""
    text = settings.parameters.get(name)
    if text is None:
        raise SettingsError(f"parameters.{name}: is missing: add it")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingsError(f"parameters.{name}: {text!r}: expected a number")
    return value
