"""Figures of a results folder, from its files alone.

`draw_all` draws whatever the folder holds the numbers of; what the store alone knows is gathered first
(`airlab.cli.gather_figures`). matplotlib is imported when the first figure is drawn, not before.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from airlab.reporting.figures import (
    ablations,
    audit,
    checkpoints,
    cost,
    curves,
    documents,
    effects,
    evidence,
    head_map,
    masking,
    stability,
)
from airlab.reporting.figures.canvas import style
from airlab.reporting.figures.figure import Figure, save
from airlab.reporting.figures.palette import STYLE
from airlab.reporting.figures.results import Results

__all__ = ["STYLE", "Figure", "draw_all", "save"]

_DRAWERS: tuple[Callable[[Results], Iterator[Figure]], ...] = (
    effects.draw,
    ablations.draw,
    masking.draw,
    evidence.draw,
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
        UserError: a file of the folder cannot be read.
    """
    results = Results(folder)
    with style():
        return tuple(figure for draw in _DRAWERS for figure in draw(results))
