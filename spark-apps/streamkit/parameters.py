"""What only one app knows: values of the settings' `parameters`, each checked where it is used."""

import math
from datetime import date

from streamkit.settings import AppSettings, BatchSettings, SettingsError


def text(settings: AppSettings | BatchSettings, name: str) -> str:
    """Return a parameter. Raises SettingsError if it is missing or empty."""
    value = settings.parameters.get(name, "")
    if not value:
        raise SettingsError(f"parameters.{name}: is missing: add it")
    return value


def number(settings: AppSettings | BatchSettings, name: str) -> float:
    """Return a parameter as a number. Raises SettingsError, one sentence that names it."""
    found = settings.parameters.get(name)
    if found is None:
        raise SettingsError(f"parameters.{name}: is missing: add it")
    try:
        value = float(found)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SettingsError(f"parameters.{name}: {found!r}: expected a number")
    return value


def integer(settings: AppSettings | BatchSettings, name: str, minimum: int, maximum: int) -> int:
    """Return a parameter that is a whole number. Raises SettingsError if it is missing, none, or out of bounds."""
    value = text(settings, name)
    try:
        number = int(value)
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= maximum:
        raise SettingsError(f"parameters.{name}: {value!r}: expected a whole number from {minimum} to {maximum}")
    return number


def day(settings: AppSettings | BatchSettings, name: str) -> date:
    """Return a parameter that is a date, such as 2026-01-31. Raises SettingsError if it is missing or none."""
    value = text(settings, name)
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise SettingsError(f"parameters.{name}: {value!r}: expected a date such as 2026-01-31") from None
