"""The one base class of every error that a user can do something about."""


class MillraceError(Exception):
    """A failure that one sentence explains: what happened, where, and what to do about it."""


class OwnedByAnotherError(MillraceError):
    """The application or job belongs to another run, so this run must leave it alone."""


class TemporaryError(MillraceError):
    """Somebody doesn't answer at this moment; whoever waits anyway asks again, for `patience` seconds."""

    def __init__(self, message: str, patience: float = 600.0) -> None:
        super().__init__(message)
        self.patience = patience
