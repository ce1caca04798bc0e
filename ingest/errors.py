"""The two kinds of failure a user meets, each told in one sentence that says what, where and what to do."""


class BadInputError(ValueError):
    """The user asked for something that can't be done as asked (exit status 2)."""


class IngestError(RuntimeError):
    """Something failed while the work was under way (exit status 1)."""
