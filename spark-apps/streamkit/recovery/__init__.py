"""Looks into checkpoints, judges them, and takes them back to an earlier batch or offset; see docs/recovery.md."""


class RecoveryError(RuntimeError):
    """What was asked for cannot be done; the message is one sentence that says what, where and what to do."""


class NothingThereError(RecoveryError):
    """There is no checkpoint at the place that was named."""
