"""A table as Markdown, CSV and on the terminal."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from airlab.reporting.formats import escape, grid, markup, plain
from airlab.reporting.tables import Column, Row, Table, estimates, verdict_sentence
from airlab.stats.estimate import Estimate

MISSING = "missing"
DIGITS = 3

_CSV_HEADER = (
    "variant",
    "task",
    "metric",
    "higher_is_better",
    "quantity",
    "value",
    "low",
    "high",
    "level",
    "n_items",
    "n_runs",
    "method",
    "outcome",
)


def write_table(folder: Path, table: Table) -> None:
    """Write ``table.md``, ``table.csv`` and ``estimates.json`` into an existing folder."""
    (folder / "table.md").write_text(render_markdown(table), encoding="utf-8", newline="\n")
    (folder / "table.csv").write_text(render_csv(table), encoding="utf-8", newline="")
    text = json.dumps(estimates(table), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (folder / "estimates.json").write_text(text + "\n", encoding="utf-8", newline="\n")


def render_markdown(table: Table) -> str:
    """The whole table: values, differences to the reference, verdicts, and a foot that says what they are."""
    spec = table.spec
    labels = [_header(column) for column in spec.columns]
    reference = _label(table, spec.reference)
    lines = [f"# {escape(spec.title)}", ""]
    lines += grid(["variant", *labels, "seeds"], _value_rows(table))
    lines += ["", f"## Difference to {escape(reference)} at equal tokens", ""]
    headers = ["variant", *labels, "composite", "verdict"]
    lines += grid(headers, _difference_rows(table))
    lines += ["", "## Verdicts", ""]
    lines += [f"- {escape(sentence)}" for sentence in _sentences(table)]
    lines += ["", *(f"{escape(line)}  " for line in foot(table))]
    return "\n".join(lines).rstrip() + "\n"


def render_csv(table: Table) -> str:
    """Long form, one line a quantity; numbers unrounded, unknown and missing ones empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_CSV_HEADER)
    for row in table.spec.rows:
        for column in table.spec.columns:
            cell = table.cells[row.variant, column.task, column.metric]
            head = (plain(row.variant), plain(column.task), plain(column.metric), column.higher_is_better)
            writer.writerow([*head, "value", *_csv_numbers(cell.value if cell else None), ""])
            if row.variant != table.spec.reference:
                writer.writerow([*head, "difference", *_csv_numbers(cell.difference if cell else None), ""])
        if row.variant in table.verdicts:
            verdict = table.verdicts[row.variant]
            numbers = _csv_numbers(verdict.composite if verdict else None)
            outcome = verdict.outcome if verdict else MISSING
            writer.writerow([plain(row.variant), "", "", True, "composite", *numbers, outcome])
    return out.getvalue()


def print_table(table: Table, console: Console | None = None) -> None:
    """Print values, differences and verdicts to the terminal.

    Tasks stand in rows and variants in columns, as many side by side as the terminal has room for.
    """
    console = console or Console()
    spec = table.spec
    variants = [row.variant for row in spec.rows]
    compared = [variant for variant in variants if variant != spec.reference]
    reference = _label(table, spec.reference)
    for title, shown, difference in (
        (spec.title, variants, False),
        (f"Difference to {reference} at equal tokens", compared, True),
    ):
        for side_by_side in _fitting(shown, console.width):
            console.print(_terminal_grid(table, title, side_by_side, difference))
    verdicts = RichTable("variant", "composite", "verdict", title="Verdicts", title_justify="left")
    for row in spec.rows:
        if row.variant in table.verdicts:
            verdicts.add_row(markup(row.label), *map(markup, _verdict_cells(table, row)))
    console.print(verdicts)
    for line in (*_sentences(table), *foot(table)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


_TASK_WIDTH, _CELL_WIDTH = 34, 19
"""Characters of a terminal table's first column and of the others, borders included."""


def _fitting(variants: list[str], width: int) -> Iterator[list[str]]:
    count = max(1, (width - _TASK_WIDTH) // _CELL_WIDTH)
    for start in range(0, len(variants), count):
        yield variants[start : start + count]


def _terminal_grid(table: Table, title: str, variants: list[str], difference: bool) -> RichTable:
    shown = RichTable(title=markup(title), title_justify="left")
    shown.add_column("task", max_width=_TASK_WIDTH - 3)
    for variant in variants:
        shown.add_column(markup(_label(table, variant)), justify="right")
    for column in table.spec.columns:
        texts = []
        for variant in variants:
            cell = table.cells[variant, column.task, column.metric]
            estimate = cell and (cell.difference if difference else cell.value)
            # An interval goes under its value: side by side they would need twice the width.
            text = estimate.text(DIGITS, sign=difference) if estimate else MISSING
            texts.append(markup(text.replace(" [", "\n[", 1)))
        shown.add_row(markup(_header(column)), *texts)
    return shown


def foot(table: Table) -> list[str]:
    """What the numbers are: seeds, intervals, composite, chance levels, and the spec's own notes."""
    spec = table.spec
    percent = f"{100 * spec.level:g} %"
    seeds = ", ".join(map(str, spec.seeds))
    if table.n_runs == 1:
        over = f"{percent} intervals: bootstrap over items; one seed ({seeds}), so seed variation is unknown."
    else:
        over = (
            f"{percent} intervals: hierarchical bootstrap over {table.n_runs} seeds ({seeds}) and items, "
            "scaled to Satterthwaite's t."
        )
    counted = [_header(column) for column in spec.columns if column.in_composite]
    composite = "all columns" if len(counted) == len(spec.columns) else f"the columns {', '.join(counted)}"
    lines = [
        f"Value [interval]; {over} Items of one document count as one.",
        f"Differences are paired (same seeds, same items) to {_label(table, spec.reference)}; each interval "
        "is for its difference alone.",
        f"Composite: mean over {composite} of the paired difference, positive is better, in units of the "
        f"between-item standard deviation of {_label(table, spec.baseline)}; verdicts use Holm-adjusted "
        f"p-values at {1 - spec.level:.2g}.",
    ]
    chances = [f"{column.label} {column.chance:.3g}" for column in spec.columns if column.chance is not None]
    if chances:
        lines.append(f"Chance: {', '.join(chances)}.")
    return [*lines, *spec.notes]


def _header(column: Column) -> str:
    return f"{column.label} {'↑' if column.higher_is_better else '↓'}"


def _label(table: Table, variant: str) -> str:
    return next(row.label for row in table.spec.rows if row.variant == variant)


def _value_rows(table: Table) -> Iterator[list[str]]:
    for row in table.spec.rows:
        texts = [row.label]
        for column in table.spec.columns:
            cell = table.cells[row.variant, column.task, column.metric]
            texts.append(cell.value.text(DIGITS) if cell else MISSING)
        yield [*texts, str(table.n_runs)]


def _difference_rows(table: Table) -> Iterator[list[str]]:
    for row in table.spec.rows:
        if row.variant == table.spec.reference:
            continue
        texts = [row.label]
        for column in table.spec.columns:
            cell = table.cells[row.variant, column.task, column.metric]
            texts.append(cell.difference.text(DIGITS, sign=True) if cell and cell.difference else MISSING)
        yield [*texts, *_verdict_cells(table, row)]


def _verdict_cells(table: Table, row: Row) -> tuple[str, str]:
    verdict = table.verdicts[row.variant]
    if verdict is None:
        return MISSING, MISSING
    return (
        verdict.composite.text(DIGITS, sign=True),
        f"{verdict.outcome} {_label(table, table.spec.reference)}",
    )


def _sentences(table: Table) -> list[str]:
    return [
        verdict_sentence(table.spec, row, table.verdicts[row.variant])
        for row in table.spec.rows
        if row.variant in table.verdicts
    ]


def _csv_numbers(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["", "", "", "", "", "", MISSING]
    ends = ["" if end is None else repr(end) for end in (estimate.low, estimate.high)]
    return [
        repr(estimate.value),
        *ends,
        repr(estimate.level),
        str(estimate.n_items),
        str(estimate.n_runs),
        plain(estimate.method),
    ]
