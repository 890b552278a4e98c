"""Text that Markdown, a terminal and a spreadsheet show as it is."""

import re
from collections.abc import Iterable, Sequence

import rich.markup

from airlab.terminal import visible

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What begins a formula in one spreadsheet or another, wide signs among them."""

UNKNOWN = "unknown"
MISSING = "missing"


def number(value: float | None, digits: int) -> str:
    """A number, or that it is unknown."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def p_text(value: float | None) -> str:
    """A p-value to three digits."""
    return "< 0.001" if value is not None and value < 0.001 else number(value, 3)


def grid(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table: the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(map(escape, headers)) + " |", "|" + " --- |" + " ---: |" * (len(headers) - 1)]
    return lines + ["| " + " | ".join(map(escape, row)) + " |" for row in rows]


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_<>|\[\]#&~])", r"\\\1", " ".join(text.split()))


def markup(text: str) -> str:
    """Text that the terminal shows as it is."""
    return rich.markup.escape(visible(text))


def plain(text: str) -> str:
    """A name that a spreadsheet takes for text: a leading formula sign gets an apostrophe before it."""
    return f"'{text}" if text.startswith(_FORMULA) else text
