"""Taking items evenly from documents that can give several."""

from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from typing import TypeVar

T = TypeVar("T")
_NOTHING = object()


def in_turn(groups: Iterable[Iterable[T]]) -> Iterator[T]:
    """The first of every group, then the second of every group that has one, and so on."""
    rounds = chain.from_iterable(zip_longest(*groups, fillvalue=_NOTHING))
    return (item for item in rounds if item is not _NOTHING)  # type: ignore[misc]
