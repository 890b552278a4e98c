"""The confound audit as matrices: what every selector goes along with, and what selections share."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airlab.reporting.figures.canvas import MARGIN, SMALL, WIDTH, Sheet, shortened
from airlab.reporting.figures.figure import Figure
from airlab.reporting.figures.head_map import scale
from airlab.reporting.figures.palette import LIGHT, diverging, sequential
from airlab.reporting.figures.results import Results, Rows, in_words, signed, value_of

_PAGE = "audit"
_LABEL = 168
_CELL = 20
_HEADS = {"compression_ratio": "zstd ratio", "repetition": "repeats"}
"""Of columns, where a confound's own name does not fit."""

_ALL = "all confounds within domains"
_Ends = tuple[float | None, float | None, float | None]
_Cells = Mapping[tuple[str, str, str], _Ends]


def draw(results: Results) -> Iterator[Figure]:
    """Correlations within domains and over all documents, and the overlap of selections."""
    rows = results.rows(_PAGE)
    if not rows:
        return
    cells = _cells(rows)
    selectors = list(dict.fromkeys(row["selector"] for row in rows))
    confounds = list(dict.fromkeys(row["against"] for row in rows if row["quantity"] == "spearman"))
    documents = _documents(results)
    yield _correlations(results, "audit-within", "within_domain", cells, selectors, confounds, documents)
    yield _correlations(results, "audit-all", "spearman", cells, selectors, confounds, documents)
    yield _overlap(results, cells, selectors, documents)


def _cells(rows: Rows) -> _Cells:
    return {
        (row["selector"], row["quantity"], row["against"]): (
            value_of(row["value"]),
            value_of(row["low"]),
            value_of(row["high"]),
        )
        for row in rows
    }


def _documents(results: Results) -> str:
    """How many documents the audit is over: the page's foot says it, its long form does not."""
    found = re.search(r"^([0-9]+) documents\\?\. Value", results.text(f"{_PAGE}.md"), re.MULTILINE)
    return f"{int(found[1]):,} documents" if found else "documents, how many is unknown"


def _correlations(
    results: Results,
    name: str,
    statistic: str,
    cells: _Cells,
    selectors: Sequence[str],
    confounds: Sequence[str],
    documents: str,
) -> Figure:
    within = statistic == "within_domain"
    columns = [(confound, statistic) for confound in confounds]
    if within:
        columns.append((_ALL, "r_squared"))
    top = 44
    sheet = Sheet(top + _CELL * len(selectors) + 12)
    axes = sheet.axes(_LABEL, top, WIDTH - _LABEL - MARGIN, _CELL * len(selectors))
    _bare(axes, len(columns), len(selectors))
    wide = (WIDTH - _LABEL - MARGIN) / len(columns)
    for column, (confound, quantity) in enumerate(columns):
        words = "all, R²" if quantity == "r_squared" else _HEADS.get(confound, in_words(confound))
        for line, word in enumerate(words.split(" ")[:2]):
            at = _LABEL + wide * (column + 0.5), 15 + 13 * line
            sheet.text(*at, shortened(word, wide, SMALL), fontsize=SMALL, ha="center")
    for row, selector in enumerate(selectors):
        sheet.text(
            MARGIN,
            top + _CELL * (row + 0.5),
            shortened(in_words(selector), _LABEL - 20, SMALL),
            fontsize=SMALL,
        )
        for column, (confound, quantity) in enumerate(columns):
            value, low, high = cells.get((selector, quantity, confound), (None, None, None))
            shade = LIGHT["paper"] if value is None else diverging(value)
            if quantity == "r_squared":
                shade = LIGHT["paper"] if value is None else sequential(value, 1.0)
                said = f"{in_words(selector)}: share of variance explained by all {signed(value)}"
            else:
                interval = f"[{signed(low)}, {signed(high)}]"
                said = f"{in_words(selector)} with {in_words(confound)}: {signed(value)} {interval}"
            _cell(sheet, axes, column, row, shade, said)
            shown = "?" if value is None else signed(value).removeprefix("+")
            axes.text(column, row, shown, ha="center", va="center", fontsize=SMALL, color=LIGHT["ink"])
    what = "as ranks within domains" if within else "over all documents"
    caption = (
        f"Spearman's ρ of every selector's score with what is seen of a document without it, {what}; −1 "
        f"(orange) to 1 (blue); {documents}. Intervals, under the pointer: 95 %, bootstrap over documents."
        + (
            " Last column: share of the variance within domains that all of them explain, 0 to 1."
            if within
            else " Differences between domains count here, which a selection within domains cannot act on."
        )
    )
    title = "What selectors go along with, " + ("within domains" if within else "over all documents")
    return sheet.finish(results.prefix, name, title, caption, (f"{_PAGE}.csv",))


def _overlap(results: Results, cells: _Cells, selectors: Sequence[str], documents: str) -> Figure:
    label, top = 138, 128
    side = (WIDTH - label - 8) / len(selectors)
    sheet = Sheet(top + side * len(selectors) + 44)
    axes = sheet.axes(label, top, side * len(selectors), side * len(selectors))
    _bare(axes, len(selectors), len(selectors))
    for number, name in enumerate(selectors):
        at = side * (number + 0.5)
        short = shortened(in_words(name), label - 20, SMALL)
        if side < SMALL and number % 2:  # every other name where they would not fit
            continue
        sheet.text(label - 5, top + at, short, fontsize=SMALL, ha="right")
        sheet.text(label + at, top - 5, short, fontsize=SMALL, rotation=90, ha="center", va="bottom")
    for row, first in enumerate(selectors):
        for column, second in enumerate(selectors):
            value = 1.0 if row == column else cells.get((first, "jaccard", second), (None,))[0]
            shade = LIGHT["paper"] if value is None else sequential(value, 1.0)
            _cell(
                sheet, axes, column, row, shade, f"{in_words(first)} and {in_words(second)}: {signed(value)}"
            )
            if value is None:
                axes.text(column, row, "?", ha="center", va="center", fontsize=SMALL, color=LIGHT["muted"])
    scale(sheet, top + side * len(selectors) + 16, 1.0, "Jaccard index")
    caption = (
        "Jaccard index of what two selectors take: documents that both take over those that either takes, 0 "
        f"to 1; {len(selectors)} selectors with the same budget, {documents}. Values are under the pointer."
    )
    return sheet.finish(results.prefix, "overlap", "How far selections overlap", caption, (f"{_PAGE}.csv",))


def _bare(axes: Any, columns: int, rows: int) -> None:
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.axis("off")


def _cell(sheet: Sheet, axes: Any, column: int, row: int, shade: str, said: str) -> None:
    from matplotlib.patches import Rectangle

    patch = Rectangle(
        (column - 0.47, row - 0.46), 0.94, 0.92, facecolor=shade, edgecolor="none", clip_on=False
    )
    axes.add_artist(patch)  # limits are set, and many patches would each ask for them
    sheet.tell(patch, said)
