"""Tables as the page shows them: every cell with the place that its numbers lead to."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airlab.errors import UserError
from airlab.reporting.figures.results import ESTIMATES, in_words
from airlab.reporting.formats import MISSING, p_text
from airlab.reporting.page.read import Grid, Published, Written
from airlab.reporting.render import DIGITS
from airlab.stats.estimate import Estimate

_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class Part:
    """A text, and where its numbers come from; None for a text without any."""

    text: str
    href: str | None = None


@dataclass(frozen=True)
class Cell:
    """One or two lines, and what the column is sorted by; without a number, by the text."""

    line: Part
    below: Part | None = None
    number: float | None = None
    hint: str = ""
    """What the pointer is told."""


@dataclass(frozen=True)
class Head:
    """A column's name, and what stands small below it."""

    text: str
    below: str = ""


@dataclass(frozen=True)
class ShownTable:
    """Rows as they were written; the first cell names the row."""

    title: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    source: Part


@dataclass(frozen=True)
class Places:
    """Where a section's numbers lead.

    Attributes:
        base: what is put before a file's name to reach it from the page.
        anchors: arm or setting, in words -> link to its fingerprints.
    """

    base: str
    anchors: Mapping[str, str]

    def file(self, name: str) -> str:
        """Link to a file of the results folder."""
        return quote(self.base + name)

    def arm(self, label: str) -> str | None:
        """Link to an arm's fingerprints, where it has some."""
        return self.anchors.get(label)


def show_grid(grid: Grid, page: Written, places: Places) -> ShownTable:
    """A grid of texts: numbers lead to the page's long form, an arm's name to its fingerprints."""
    source = Part(page.source, places.file(page.source))

    def cells(row: Sequence[str]) -> Iterator[Cell]:
        name, *others = row
        yield Cell(Part(name, places.arm(name) or _leads(name, source)))
        yield from (Cell(Part(text, _leads(text, source))) for text in others)

    rows = tuple(tuple(cells(row)) for row in grid.rows)
    return ShownTable(grid.title, tuple(map(Head, grid.headers)), rows, source)


def _leads(text: str, source: Part) -> str | None:
    return source.href if _DIGIT.search(text) else None


def show_main(published: Published, page: Written, places: Places) -> ShownTable:
    """Arms against columns: the value, below it the difference to the reference with its interval.

    Values lead to the fingerprints of the arm's runs, whatever was computed over arms to the estimates.

    Raises:
        UserError: the estimates are not those of the table.
    """
    estimates = published.estimates
    assert estimates is not None
    values = page.grids[0]
    labels, columns = [row[0] for row in values.rows], values.headers[1:-1]  # the last are seeds
    flat = estimates["cells"]
    if len(flat) != len(labels) * len(columns) or len(labels) != len(estimates["verdicts"]) + 1:
        raise UserError(
            f"{published.folder / ESTIMATES} does not belong to {page.name}.md beside it; write the table "
            "again."
        )
    by_row = [flat[start : start + len(columns)] for start in range(0, len(flat), len(columns))]
    reference = next(
        label for label, cells in zip(labels, by_row, strict=True) if _is_reference(cells, estimates)
    )
    heads = (
        Head("arm"),
        Head(f"composite against {reference}", "positive is better"),
        Head("p", "Holm-adjusted"),
        Head("verdict"),
        *(Head(column, _sizes(cell)) for column, cell in zip(columns, by_row[0], strict=True)),
    )
    source = Part(ESTIMATES, places.file(ESTIMATES))
    rows = tuple(
        tuple(_row(label, reference, cells, estimates["verdicts"], places, source))
        for label, cells in zip(labels, by_row, strict=True)
    )
    seeds = ", ".join(map(str, estimates["seeds"]))
    title = (
        f"{page.title}: values, and below them differences to {reference} at equal seeds ({seeds}) and items"
    )
    return ShownTable(title, heads, rows, source)


def _is_reference(cells: Sequence[Mapping[str, Any]], estimates: Mapping[str, Any]) -> bool:
    return bool(cells[0]["variant"] == estimates["reference"])


def _sizes(cell: Mapping[str, Any]) -> str:
    value = cell["value"]
    chance = f", chance {cell['chance']:.3g}" if cell["chance"] is not None else ""
    return f"{value['n_items']} items{chance}" if value else ""


def _row(
    label: str,
    reference: str,
    cells: Sequence[Mapping[str, Any]],
    verdicts: Mapping[str, Mapping[str, Any] | None],
    places: Places,
    source: Part,
) -> Iterator[Cell]:
    runs = places.arm(in_words(cells[0]["variant"])) or source.href
    yield Cell(Part(label, runs))
    yield from _verdict(verdicts.get(cells[0]["variant"]), label, reference, source)
    for cell in cells:
        if cell["value"] is None:
            yield Cell(Part(MISSING))
            continue
        value = Estimate(**cell["value"])
        below = None
        if cell["difference"] is not None:
            below = Part(Estimate(**cell["difference"]).text(DIGITS, sign=True), source.href)
        hint = f"{value.text(DIGITS)}, {value.n_items} items, {value.n_runs} seeds"
        yield Cell(Part(f"{value.value:.{DIGITS}f}", runs), below, value.value, hint)


def _verdict(verdict: Mapping[str, Any] | None, label: str, reference: str, source: Part) -> Iterator[Cell]:
    if verdict is None:
        yield Cell(Part("the reference" if label == reference else MISSING))
        yield from (Cell(Part("")), Cell(Part("")))
        return
    composite = Estimate(**verdict["composite"])
    value, _, interval = composite.text(DIGITS, sign=True).partition(" ")
    yield Cell(Part(value, source.href), Part(interval, source.href), composite.value)
    yield Cell(Part(p_text(verdict["p_holm"]), source.href), None, verdict["p_holm"])
    yield Cell(Part(f"{verdict['outcome']} {reference}"))
