"""The one exception that means "the user can fix this"."""


class UserError(Exception):
    """A mistake in what the user asked for: one sentence saying what is wrong and what to do.

    The command line prints the message without a traceback and leaves with exit code 2.
    """
