"""A figure: what is drawn, what it says, and what it was drawn from; saved as SVG and PNG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airlab.reporting.figures.inline import SVG
from airlab.reporting.figures.palette import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_PNG_SCALE = 3


@dataclass(frozen=True)
class Figure:
    """One figure of a results folder.

    Attributes:
        name: of its files, without suffix; unique in its folder.
        title: what it shows, in a few words.
        caption: how to read it: units, sample sizes, what is unknown.
        svg: an element to put into a page. Its ids are like no other figure's, and its colours are the
            variables of `STYLE`, each with the light colour to fall back on.
        sources: what it was drawn from: files of the folder, and fingerprints of artifacts.
    """

    name: str
    title: str
    caption: str
    svg: str
    sources: tuple[str, ...]
    drawing: "Drawing" = field(repr=False, compare=False)


def save(figures: Sequence[Figure], folder: Path) -> None:
    """Write `<name>.svg` and `<name>.png` of each into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        (folder / f"{figure.name}.svg").write_text(standalone(figure), encoding="utf-8", newline="\n")
        # Without a name of the software, the bytes do not hang on its version more than the picture does.
        figure.drawing.savefig(
            folder / f"{figure.name}.png", format="png", dpi=72 * _PNG_SCALE, metadata={"Software": None}
        )


def standalone(figure: Figure) -> str:
    """The SVG as a file of its own: with the colours of both grounds, and a ground."""
    start, _, rest = figure.svg.partition(">")
    ground = '<rect width="100%" height="100%" style="fill:var(--fig-paper,#ffffff)" />'
    assert f'xmlns="{SVG}"' in start
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{start}><style>{STYLE}</style>{ground}{rest}\n'
