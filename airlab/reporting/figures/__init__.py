"""Figures of a results folder, from its files alone.

`draw_all` draws whatever the folder holds the numbers of; what the store alone knows is gathered first
(`airlab.cli.gather_figures`). matplotlib is imported when the first figure is drawn, not before.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from airlab.errors import UserError
from airlab.reporting.figures import (
    ablations,
    audit,
    checkpoints,
    cost,
    coverage,
    curves,
    documents,
    effects,
    evidence,
    head_map,
    masking,
    stability,
)
from airlab.reporting.figures.canvas import style
from airlab.reporting.figures.figure import Figure, standalone
from airlab.reporting.figures.palette import STYLE
from airlab.reporting.figures.results import Results

__all__ = ["STYLE", "Figure", "draw_all", "save"]

_PNG_DPI = 216
"""Three dots a point."""

_DRAWERS: tuple[Callable[[Results], Iterator[Figure]], ...] = (
    effects.draw,
    ablations.draw,
    masking.draw,
    evidence.draw,
    coverage.draw,
    audit.draw,
    head_map.draw,
    stability.draw,
    checkpoints.draw,
    documents.draw,
    curves.draw,
    cost.draw,
)
"""In the order they are read."""


def draw_all(folder: Path) -> tuple[Figure, ...]:
    """Every figure of a results folder, in reading order.

    Raises:
        UserError: a file of the folder cannot be read, or does not hold what airlab writes.
    """
    results = Results(folder)
    with style():
        try:
            return tuple(figure for draw in _DRAWERS for figure in draw(results))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the results in {folder} cannot be drawn ({type(error).__name__}: {error}); restore them or "
                "write the table again."
            ) from error


def save(figures: Sequence[Figure], folder: Path) -> None:
    """Write `<name>.svg` and `<name>.png` of each into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        for figure in figures:
            (folder / f"{figure.name}.svg").write_text(standalone(figure), encoding="utf-8", newline="\n")
            # Without the name of the software the bytes are the same wherever the picture is.
            path = folder / f"{figure.name}.png"
            figure.drawing.savefig(path, format="png", dpi=_PNG_DPI, metadata={"Software": None})
