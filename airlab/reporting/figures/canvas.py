"""The sheet that every figure is drawn on: as wide as a phone, measured in its points, with titles per mark.

A sheet is 400 points wide, and no text on it is smaller than 10, so that it can be read on a screen of 360
points; a wider screen may show it larger. Everything is placed by hand in points: nothing moves with the
version of a layout engine, and what would not fit is shortened before it is drawn.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.inline import inline
from airlab.reporting.figures.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

WIDTH = 400
"""Points of every sheet."""

MARGIN = 14
KEY_LINE = 17
SMALL = 10
TEXT = 11

Entry = tuple[str, str, str, bool]
"""Of a key: words, colour, marker, and whether it is filled."""

_INK, _MUTED, _GRID, _PAPER = (LIGHT[name] for name in ("ink", "muted", "grid", "paper"))
_SETTINGS: Any = {
    "font.family": ["DejaVu Sans"],  # matplotlib brings it, so widths are the same everywhere
    "font.size": TEXT,
    "text.parse_math": False,  # a name with dollar signs is a name
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.labelsize": TEXT,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "figure.facecolor": _PAPER,
    "axes.facecolor": "none",
    "savefig.facecolor": _PAPER,
    "svg.fonttype": "none",
    "svg.hashsalt": "airlab",
    "path.simplify": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with airlab's settings, whatever the user's own are."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # The reader's browser has the letters that the PNG shows boxes for.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


class Sheet:
    """One figure while it is drawn. Places are in points from the top left corner."""

    def __init__(self, height: float) -> None:
        """Must be called inside `style()`."""
        from matplotlib.figure import Figure as Drawing

        self.height = height
        self.drawing = Drawing(figsize=(WIDTH / 72, height / 72), dpi=72)
        self._titles: dict[str, Sequence[str]] = {}

    def axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        """Axes whose box begins at (`left`, `top`)."""
        low = self.height - top - height
        return self.drawing.add_axes((left / WIDTH, low / self.height, width / WIDTH, height / self.height))

    def text(self, x: float, y: float, words: str, **how: Any) -> None:
        """Words whose middle is at the height `y`."""
        how = {"va": "center", "fontsize": TEXT, **how}
        self.drawing.text(x / WIDTH, 1 - y / self.height, printable(words), **how)

    def tell(self, artist: "Artist", *titles: str) -> None:
        """What the marks of an artist say under the pointer: one title for each, or one for all."""
        gid = f"mark-{len(self._titles)}"
        artist.set_gid(gid)
        self._titles[gid] = tuple(map(printable, titles))

    def interval(
        self,
        axes: "Axes",
        y: float,
        value: float | None,
        low: float | None,
        high: float | None,
        said: str,
        *,
        colour: str = "blue",
        marker: str = "o",
        filled: bool = True,
        size: float = 6,
    ) -> None:
        """A point with its interval at the height `y`; a question mark where the value is unknown."""
        if value is None:
            left, right = axes.get_xlim()
            mark = axes.text((left + right) / 2, y, "?", ha="center", va="center", color=_MUTED)
            self.tell(mark, said)
            return
        if low is not None and high is not None:
            (line,) = axes.plot([low, high], [y, y], color=LIGHT[colour], linewidth=size / 4 + 0.3)
            self.tell(line, said)
        (point,) = axes.plot(
            [value],
            [y],
            marker=marker,
            markersize=size,
            linestyle="none",
            color=LIGHT[colour],
            markerfacecolor=LIGHT[colour] if filled else _PAPER,
            markeredgewidth=size / 4,
            clip_on=False,
        )
        self.tell(point, said)

    def key(self, y: float, entries: "Sequence[Entry]", columns: int) -> None:
        """Which mark means what: lines of `columns` entries, the first at the height `y`."""
        from matplotlib.lines import Line2D

        wide = (WIDTH - 2 * MARGIN) / columns
        for number, (words, colour, marker, filled) in enumerate(entries):
            line, column = divmod(number, columns)
            x, at = MARGIN + wide * column, y + KEY_LINE * line
            mark = Line2D(
                [(x + 4) / WIDTH],
                [1 - at / self.height],
                marker=marker,
                markersize=6,
                color=LIGHT[colour],
                markerfacecolor=LIGHT[colour] if filled else _PAPER,
                markeredgewidth=1.4,
                linestyle="none",
                transform=self.drawing.transFigure,
                figure=self.drawing,
            )
            self.drawing.add_artist(mark)
            self.text(x + 12, at, shortened(words, wide - 18, SMALL), fontsize=SMALL, color=_MUTED)

    def finish(self, prefix: str, name: str, title: str, caption: str, sources: Sequence[str]) -> Figure:
        """The figure. Its ids begin with its name and `prefix`."""
        out = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self.drawing.savefig(out, format="svg", metadata=nothing, transparent=True)
        title, caption = printable(title), printable(caption)
        svg = inline(out.getvalue(), f"{name}-{prefix}", title, self._titles)
        return Figure(name, title, caption, svg, tuple(sources), self.drawing)


def shortened(words: str, points: float, size: float = TEXT) -> str:
    """Words that fit into a width, with an ellipsis where something had to go."""
    words = printable(words)
    if text_width(words, size) <= points:
        return words
    while words and text_width(words + "…", size) > points:
        words = words[:-1].rstrip()
    return words + "…"


def printable(words: str) -> str:
    """Words on one line, without what is not seen: control characters, and those that turn its direction."""
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())


@cache
def text_width(words: str, size: float = TEXT) -> float:
    """How wide words are, in points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    properties = FontProperties(family=["DejaVu Sans"], size=size)
    return float(TextToPath().get_text_width_height_descent(words, properties, ismath=False)[0])
