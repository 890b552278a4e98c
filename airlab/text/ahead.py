"""Work done ahead of whoever needs it, in a thread beside it."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")


def ahead(batches: Iterable[Iterable[Item]], *, most: int) -> Generator[list[Item], None, None]:
    """Each batch's items as a list, in order; a thread goes through up to `most` batches ahead of the caller.

    What going through a batch raises is raised here, in its turn. Close the generator (`contextlib.closing`)
    to stop early: no further batch is begun, and the call returns as soon as the thread is done with the
    item in hand. Useful for work that releases the interpreter, such as reading and tokenizing.
    """
    stopped = Event()

    def gather(batch: Iterable[Item]) -> list[Item]:
        items = []
        for item in batch:
            items.append(item)
            if stopped.is_set():
                break
        return items

    begun: deque[Future[list[Item]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
        try:
            for batch in batches:
                begun.append(thread.submit(gather, batch))
                if len(begun) > most:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            stopped.set()
            for future in begun:
                future.cancel()
