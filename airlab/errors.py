"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """A mistake in what the user asked for: one sentence saying what is wrong and what to do.

    The command line prints the message without a traceback and leaves with exit code 2.
    """


def first_line(error: BaseException) -> str:
    """What a library's error says, for a sentence of our own; its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
