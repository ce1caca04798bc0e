"""Certificate authorities that an app was told to trust."""

from pathlib import Path

from streamkit.settings import SettingsError


def read_certificates(setting: str, location: str, variable: str) -> str:
    """Return the text of a PEM file; `setting` and `variable` say where it was named. Raises SettingsError."""
    try:
        return Path(location).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not PEM"
        raise SettingsError(
            f"{setting}: {location} cannot be read ({reason}): mount the certificate there, or correct {variable}"
        ) from error
