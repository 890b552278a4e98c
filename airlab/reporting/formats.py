"""Text that Markdown, a terminal and a spreadsheet show as it is."""

import re
from collections.abc import Iterable, Sequence


def grid(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table: the first column to the left, the others to the right."""
    lines = ["| " + " | ".join(map(escape, headers)) + " |", "|" + " --- |" + " ---: |" * (len(headers) - 1)]
    return lines + ["| " + " | ".join(map(escape, row)) + " |" for row in rows]


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_<>|\[\]#&~])", r"\\\1", " ".join(text.split()))


def markup(text: str) -> str:
    """Text that the terminal shows as it is."""
    return text.replace("[", "\\[")


def plain(text: str) -> str:
    """A name that a spreadsheet takes for text: a leading formula sign gets an apostrophe before it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
