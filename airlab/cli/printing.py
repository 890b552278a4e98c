"""What is printed to a reader that left, or to a disk that is full: known from all other errors of files."""

import io
import os
import sys
from typing import Any

from airlab.errors import first_line


class NotTaken(Exception):
    """Standard output or standard error does not take what is printed."""


def watch() -> None:
    """From now on both raise `NotTaken` instead of an error that could be of any file or pipe."""
    sys.stdout = _watched(sys.stdout)
    sys.stderr = _watched(sys.stderr)


def leave(lost: NotTaken) -> int:
    """The exit code where nothing more can be printed.

    A reader that left, such as `head`, has what it wanted and is told nothing.
    """
    # What is still to be written would be tried again, and complained of, when Python ends.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if isinstance(lost.__cause__, BrokenPipeError):
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
        return 141
    os.dup2(nowhere, sys.stdout.fileno())
    sentence = f"what is printed cannot be written ({first_line(lost)}): free some space, or print elsewhere."
    print(f"airlab: {sentence}", file=sys.stderr)
    return 2


class _Watched(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise NotTaken(first_line(error)) from error


def _watched(stream: Any) -> io.TextIOWrapper:
    raw = _Watched(stream.fileno(), "w", closefd=False)
    unbuffered = isinstance(stream.buffer, io.RawIOBase)
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
