"""What a command's end means: an exit code, and at most one sentence on standard error."""

import sys
from collections.abc import Callable

from airlab.errors import UserError
from airlab.terminal import visible


class Failed(Exception):
    """Something went wrong outside this process and was reported; `code` is the exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def answer(name: str, call: Callable[[], None]) -> int:
    """Call a command; returns the exit code.

    0 it did what was asked, 2 the user's mistake, 130 interrupted. What else it raises is passed on.
    """
    try:
        call()
    except UserError as error:
        return refuse(name, str(error))
    except Failed as error:
        refuse(name, str(error))
        return error.code
    except KeyboardInterrupt:
        print(f"airlab {name}: stopped; the same command continues where it was.", file=sys.stderr)
        return 130
    return 0


def refuse(name: str, sentence: str) -> int:
    """Print a user's mistake; returns its exit code."""
    # One line even where a library's message or a file's name holds several.
    print(f"{f'airlab {name}'.rstrip()}: {visible(' '.join(sentence.splitlines()))}", file=sys.stderr)
    return 2
