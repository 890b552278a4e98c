"""Cutting documents in two."""

import re
from collections.abc import Iterable

_SINGLE_SPACE = re.compile(r"(?<=\S) (?=\S)")
_WHITESPACE = re.compile(r"(?<=\S)\s+(?=\S)")


def cut_in_half(text: str) -> tuple[str, str] | None:
    """Both halves of a text, cut at the whitespace nearest to the middle; None if it is a single word.

    Single spaces in the middle half of the text come before other whitespace: there tokenizers cut too, so
    that the tokens of the first half are those that the whole text begins with, where newlines may be one
    token with the full stop before them. The second half begins with the whitespace.
    """
    middle = len(text) / 2
    spaces = (match.start() for match in _SINGLE_SPACE.finditer(text))
    where = _nearest((space for space in spaces if abs(space - middle) <= middle / 2), middle)
    if where is None:
        where = _nearest((match.start() for match in _WHITESPACE.finditer(text)), middle)
    return None if where is None else (text[:where], text[where:])


def _nearest(places: Iterable[int], middle: float) -> int | None:
    return min(places, key=lambda place: abs(place - middle), default=None)
