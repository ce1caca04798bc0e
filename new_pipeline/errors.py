"""What a user can do something about."""


class PipelineError(Exception):
    """One sentence: what is wrong, and what to do."""
