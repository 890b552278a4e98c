"""A figure: what is drawn, what it says, and what it was drawn from."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from airlab.reporting.figures.palette import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Figure:
    """One figure of a results folder.

    Attributes:
        name: of its files, without suffix; unique in its folder.
        title: what it shows, in a few words.
        caption: how to read it: units, sample sizes, what is unknown.
        svg: an element to put into a page that has `STYLE`, whose variables its colours are. Its ids are like
            no other figure's.
        sources: what it was drawn from: files of the folder, and fingerprints of artifacts.
    """

    name: str
    title: str
    caption: str
    svg: str
    sources: tuple[str, ...]
    drawing: "Drawing" = field(repr=False, compare=False)


def standalone(figure: Figure) -> str:
    """The SVG as a file of its own: with the colours of both grounds, a ground, and its caption."""
    start, _, rest = figure.svg.partition(">")
    ground = '<rect width="100%" height="100%" style="fill:var(--fig-paper)" />'
    words = f"<title>{escape(figure.title)}</title><desc>{escape(figure.caption)}</desc>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{start}>{words}<style>{STYLE}</style>{ground}{rest}\n'
