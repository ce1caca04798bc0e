"""The one error that is shown to the user."""


class UserError(Exception):
    """Something the user can put right: the text is one sentence that says what, where and what to do."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
