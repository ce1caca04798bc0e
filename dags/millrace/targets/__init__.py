"""Targets: what runs Spark applications and jobs.

Chosen here, once, by configuration; a DAG never asks which.
"""

from millrace.config import Settings, load_settings
from millrace.errors import MillraceError
from millrace.targets.base import Target


def get_target(settings: Settings | None = None) -> Target:
    """Return the target named by MILLRACE_TARGET.

    Raises MillraceError for a name that doesn't exist, and for a target whose own settings are missing.
    """
    settings = settings or load_settings()
    if settings.target == "embedded":
        from millrace.targets.embedded import EmbeddedTarget

        return EmbeddedTarget(settings)
    if settings.target == "kubernetes":
        from millrace.targets.kubernetes import KubernetesTarget

        return KubernetesTarget(settings)
    raise MillraceError(
        f"MILLRACE_TARGET is {settings.target!r}, but the targets are `embedded` and `kubernetes`: set it to one of "
        "them."
    )
