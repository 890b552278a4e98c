"""A table as LaTeX: composites with their verdicts first, then values and differences column by column.

What it needs of a document's preamble is `booktabs`. Tasks stand in rows and arms in columns, so that long
tables go on in further floats instead of beyond the page's edge.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from airlab.reporting.formats import MISSING, number
from airlab.reporting.render import DIGITS, foot
from airlab.reporting.tables import Cell, Column, Contrast, Table
from airlab.stats.estimate import Estimate

SIDE_BY_SIDE = 3
"""Arms in one float: with the tasks' names they fill the text width of an ordinary article."""

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"{\ttfamily\char34}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",
    "\0": "{}",
}


def tex(text: str) -> str:
    """Text that LaTeX shows as it is, on one line.

    Letters beyond Latin ones are left as they are: which of them there is a font for is the document's own.
    """
    visible = "".join(c if c.isprintable() else " " for c in text)
    apart = re.sub(r"([-,])(?=\1)", r"\1\0", " ".join(visible.split()))  # LaTeX would join them to one sign
    return "".join(_ESCAPES.get(c, c) for c in apart)


def render_latex(table: Table) -> str:
    """All floats of a table, the one with composites and verdicts first."""
    spec = table.spec
    label = "tab:" + re.sub(r"[^a-z0-9]+", "-", spec.title.lower()).strip("-")
    floats = [_verdicts(table, label)]
    if spec.baseline != spec.reference:
        floats.append(_against_baseline(table, label))
    floats += _columns(table, label, "Values", None)
    floats += _columns(table, label, f"Difference to {_name(table, spec.reference)}", "difference")
    return "% Made by airlab; needs \\usepackage{booktabs}.\n" + "\n".join(floats)


def _verdicts(table: Table, label: str) -> str:
    spec = table.spec
    rows = []
    for row in spec.rows:
        if row.variant != spec.reference:
            verdict = table.verdicts[row.variant]
            outcome = tex(verdict.outcome) if verdict else MISSING
            rows.append([tex(row.label), *_contrast(verdict), outcome])
    title = f"{spec.title}: composites against {_name(table, spec.reference)}"
    headers = ("arm", "composite", "interval", "Holm-adjusted p", "detectable", "verdict")
    return _float(f"{title}. {' '.join(foot(table))}", title, label, "lrrrrl", headers, _lines(rows))


def _against_baseline(table: Table, label: str) -> str:
    spec = table.spec
    rows = [
        [tex(row.label), *_contrast(table.against_baseline[row.variant])]
        for row in spec.rows
        if row.variant != spec.baseline
    ]
    title = f"{spec.title}: composites against {_name(table, spec.baseline)}"
    headers = ("arm", "composite", "interval", "Holm-adjusted p", "detectable")
    return _float(f"{title}. {_NOTES}", title, f"{label}-baseline", "lrrrr", headers, _lines(rows))


_NOTES = "Notes as with the verdicts."


def _contrast(contrast: Contrast | None) -> list[str]:
    """Composite, interval, adjusted p-value and detectable difference."""
    if contrast is None:
        return [MISSING] * 4
    errors = (number(error, DIGITS) for error in (contrast.p_holm, contrast.detectable))
    return [*_numbers(contrast.composite, sign=True), *errors]


def _columns(table: Table, label: str, title: str, quantity: str | None) -> Iterator[str]:
    """Floats of values, or of differences to the reference, as many as the arms need."""
    spec = table.spec
    arms = [row for row in spec.rows if quantity is None or row.variant != spec.reference]
    parts = [arms[start : start + SIDE_BY_SIDE] for start in range(0, len(arms), SIDE_BY_SIDE)]
    for place, part in enumerate(parts, 1):
        rows: list[Sequence[str]] = []
        for column in spec.columns:
            cells = (table.cells[row.variant, column.task, column.metric] for row in part)
            values, intervals = zip(*(_cell(cell, quantity) for cell in cells), strict=True)
            rows += [(_column(column), *values), ("", *intervals)]
        short = f"{spec.title}: {title}" + (f" ({place} of {len(parts)})" if len(parts) > 1 else "")
        yield _float(
            f"{short}. {_NOTES}",
            short,
            f"{label}-{quantity or 'values'}-{place}",
            "l" + "r" * len(part),
            ("task", *(row.label for row in part)),
            _lines(rows, pairs=True),
        )


def _cell(cell: Cell | None, quantity: str | None) -> tuple[str, str]:
    estimate = cell and (cell.difference if quantity else cell.value)
    return _numbers(estimate, sign=quantity is not None) if estimate else (MISSING, "")


def _numbers(estimate: Estimate, *, sign: bool) -> tuple[str, str]:
    """A value and its interval, digits and signs as everywhere else."""
    value, _, interval = estimate.text(DIGITS, sign=sign).partition(" ")
    ends = interval.strip("[]").split(", ")
    return f"${value}$", f"$[{ends[0]},\\,{ends[1]}]$" if estimate.known else f"{{[}}{ends[0]}{{]}}"


def _column(column: Column) -> str:
    return tex(f"{column.label} {'↑' if column.higher_is_better else '↓'}")


def _name(table: Table, variant: str) -> str:
    return next(row.label for row in table.spec.rows if row.variant == variant)


def _header(text: str, side: str) -> str:
    """A column's name, a word a line."""
    words = r"\\".join(map(tex, text.split()))
    if r"\\" not in words:
        return words
    return rf"\begin{{tabular}}[b]{{@{{}}{side}@{{}}}}{words}\end{{tabular}}"


def _lines(rows: Sequence[Sequence[str]], *, pairs: bool = False) -> Iterator[str]:
    for place, row in enumerate(rows):
        if pairs and place and place % 2 == 0:
            yield r"\addlinespace[2pt]"
        yield " & ".join(row) + r" \\"


def _float(
    caption: str, short: str, label: str, sides: str, headers: Sequence[str], lines: Iterable[str]
) -> str:
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\scriptsize\setlength{\tabcolsep}{2pt}",
            rf"\caption[{{{tex(short)}}}]{{{tex(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{@{{}}{sides}@{{}}}}",
            r"\toprule",
            " & ".join(_header(text, side) for text, side in zip(headers, sides, strict=True)) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
