"""What an experiment asked, and what was fixed before it ran: its module's docstring."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markupsafe import Markup

_PROSE = MarkdownIt("commonmark", {"html": False}).disable(
    ["heading", "lheading", "image", "link", "autolink"]
)


@dataclass(frozen=True)
class Question:
    """In the order it is read: the question, the hypothesis, everything else that was written before."""

    text: str
    hypothesis: Markup
    plan: Markup
    arms: tuple[str, ...]
    """That it is about, as pages write them."""


def question(docstring: str, arms: Iterable[str]) -> Question:
    """A question from a docstring: its first line, the paragraph with the hypothesis, and the others.

    Args:
        arms: names of those that it is about.
    """
    first, *blocks = re.split(r"\n\s*\n", docstring.strip())
    start = next((number for number, block in enumerate(blocks) if "Hypothesis" in block), len(blocks))
    end = start + 1
    while end < len(blocks) and blocks[end - 1].endswith(":") and blocks[end].startswith("- "):
        end += 1
    return Question(
        " ".join(first.split()),
        _html(blocks[start:end]),
        _html([*blocks[:start], *blocks[end:]]),
        tuple(arm.replace("_", " ") for arm in arms),
    )


def _html(blocks: list[str]) -> Markup:
    # Safe: the parser escapes what it finds, and neither HTML nor links pass it.
    return Markup(_PROSE.render("\n\n".join(blocks)))
