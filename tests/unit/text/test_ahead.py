"""Work ahead comes in order, stays within its bound, and ends when its consumer does."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from airlab.errors import UserError
from airlab.text.ahead import ahead


def batch(*items: int) -> Iterator[int]:
    yield from items


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("most", [1, 2, 5])
def test_batches_come_whole_and_in_order(most: int) -> None:
    batches = [batch(*range(n)) for n in (3, 0, 1, 7, 2)]
    assert list(ahead(batches, most=most)) == [[0, 1, 2], [], [0], [0, 1, 2, 3, 4, 5, 6], [0, 1]]
    assert list(ahead([], most=most)) == []


def test_no_more_than_so_many_are_begun_ahead_and_all_of_those_are() -> None:
    begun: list[int] = []

    def noted(number: int) -> Iterator[int]:
        begun.append(number)
        yield number

    with closing(ahead((noted(i) for i in range(8)), most=2)) as batches:
        for taken in range(5):
            assert next(batches) == [taken]
            wait_until(lambda taken=taken: len(begun) == taken + 3)
            time.sleep(0.02)
            assert begun == list(range(taken + 3))


def test_the_work_is_done_in_one_other_thread() -> None:
    def where() -> Iterator[str]:
        yield threading.current_thread().name

    names = [name for (name,) in ahead((where() for _ in range(4)), most=2)]
    assert names == ["ahead_0"] * 4


def test_an_error_is_raised_here_after_what_came_before_it() -> None:
    error = UserError("line 3 is odd.")

    def odd() -> Iterator[int]:
        yield 1
        raise error

    batches = ahead([batch(0), odd(), batch(2)], most=2)
    assert next(batches) == [0]
    with pytest.raises(UserError) as raised:
        next(batches)
    assert raised.value is error
    assert threads() == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_consumer_that_fails_stops_the_thread_after_the_item_in_hand(error: type[BaseException]) -> None:
    made: list[int] = []

    def long() -> Iterator[int]:
        while len(made) < 500:
            made.append(len(made))
            yield made[-1]
            time.sleep(0.01)

    with pytest.raises(error), closing(ahead([batch(1), long(), long()], most=2)) as batches:
        next(batches)
        wait_until(lambda: made)
        raise error
    count = len(made)
    assert threads() == []
    time.sleep(0.05)
    assert len(made) == count < 500
