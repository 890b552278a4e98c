"""Processes that never outlive the one that started them: their standard input is a pipe that it holds open.

The system closes a pipe however its owner dies, so nothing has to be told, and nothing is left that would go
on writing where the next attempt works.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Joinable(Protocol):
    """A process that can be waited for."""

    def join(self) -> None: ...


@contextmanager
def lifeline() -> Iterator[int]:
    """A standard input for processes to be started; it ends with the block, or with this process."""
    reader, writer = os.pipe()
    try:
        yield reader
    finally:
        os.close(writer)
        os.close(reader)


def at_end_of_input(end: Callable[[], None]) -> None:
    """Read standard input away in a thread, and call `end` there when it is over."""

    def read() -> None:
        while os.read(0, 1 << 12):  # not sys.stdin, whose lock this thread would still hold at the end
            pass
        end()

    threading.Thread(target=read, daemon=True).start()


def lines_of_input(take: Callable[[str], object], end: Callable[[], None]) -> None:
    """Hand on each line of standard input as it comes, and call `end` when it is over; both in a thread."""

    def read() -> None:
        rest = b""
        while chunk := os.read(0, 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                take(line.decode())
        end()

    threading.Thread(target=read, daemon=True).start()


def end_with(parent: Joinable) -> None:
    """End this process as soon as the one that started it has ended; for workers of `multiprocessing`."""

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
