"""A table as Markdown, CSV and on the terminal."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from airlab.reporting.formats import MISSING, escape, grid, markup, number, plain
from airlab.reporting.tables import (
    SEEDS_TO_CLAIM,
    Cell,
    Column,
    Contrast,
    Row,
    Table,
    Verdict,
    estimates,
    verdict_sentence,
)
from airlab.stats.estimate import Estimate

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
    "p_holm",
    "detectable",
)


def write_table(folder: Path, table: Table) -> None:
    """Write ``table.md``, ``table.csv`` and ``estimates.json`` into an existing folder."""
    (folder / "table.md").write_text(render_markdown(table), encoding="utf-8", newline="\n")
    (folder / "table.csv").write_text(render_csv(table), encoding="utf-8", newline="")
    text = json.dumps(estimates(table), indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (folder / "estimates.json").write_text(text + "\n", encoding="utf-8", newline="\n")


def render_markdown(table: Table) -> str:
    """The whole table: values, differences, verdicts, and a foot that says what they are."""
    spec = table.spec
    labels = [_header(column) for column in spec.columns]
    lines = [f"# {escape(spec.title)}", ""]
    lines += grid(["variant", *labels, "seeds"], _value_rows(table))
    for to in _compared_to(table):
        lines += ["", f"## {escape(_difference_title(table, to))}", ""]
        lines += grid(["variant", *labels, *_contrast_headers(table, to)], _difference_rows(table, to))
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
            writer.writerow([*head, "value", *_csv_numbers(cell.value if cell else None), "", "", ""])
            for to in _compared_to(table):
                if row.variant != to:
                    numbers = _csv_numbers(_difference(table, cell, to))
                    writer.writerow([*head, _csv_quantity(table, "difference", to), *numbers, "", "", ""])
        for to in _compared_to(table):
            if row.variant != to:
                contrast = _contrasts(table, to)[row.variant]
                quantity = _csv_quantity(table, "composite", to)
                numbers = _csv_numbers(contrast.composite if contrast else None)
                errors = (contrast.p_holm, contrast.detectable) if contrast else (None, None)
                writer.writerow(
                    [plain(row.variant), "", "", True, quantity, *numbers, _outcome(table, row, to)]
                    + ["" if error is None else repr(error) for error in errors]
                )
    return out.getvalue()


def _csv_quantity(table: Table, quantity: str, to: str) -> str:
    return quantity if to == table.spec.reference else f"{quantity}_to_{to}"


def print_table(table: Table, console: Console | None = None) -> None:
    """Print values, differences and verdicts to the terminal.

    Tasks stand in rows and variants in columns, as many side by side as the terminal has room for.
    """
    console = console or Console()
    spec = table.spec
    variants = [row.variant for row in spec.rows]
    for side_by_side in _fitting(variants, console.width):
        console.print(_terminal_grid(table, spec.title, side_by_side, None))
    for to in _compared_to(table):
        compared = [variant for variant in variants if variant != to]
        for side_by_side in _fitting(compared, console.width):
            console.print(_terminal_grid(table, _difference_title(table, to), side_by_side, to))
        title = "Verdicts" if to == spec.reference else f"Composites against {_label(table, to)}"
        shown = RichTable("variant", *_contrast_headers(table, to), title=markup(title), title_justify="left")
        for row in spec.rows:
            if row.variant != to:
                shown.add_row(markup(row.label), *map(markup, _contrast_cells(table, row, to)))
        console.print(shown)
    for line in (*_sentences(table), *foot(table)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


_TASK_WIDTH, _CELL_WIDTH = 34, 19
"""Characters of a terminal table's first column and of the others, borders included."""


def _fitting(variants: list[str], width: int) -> Iterator[list[str]]:
    count = max(1, (width - _TASK_WIDTH) // _CELL_WIDTH)
    for start in range(0, len(variants), count):
        yield variants[start : start + count]


def _terminal_grid(table: Table, title: str, variants: list[str], to: str | None) -> RichTable:
    """Values, or differences to a variant."""
    shown = RichTable(title=markup(title), title_justify="left")
    shown.add_column("task", max_width=_TASK_WIDTH - 3)
    for variant in variants:
        shown.add_column(markup(_label(table, variant)), justify="right")
    for column in table.spec.columns:
        texts = []
        for variant in variants:
            cell = table.cells[variant, column.task, column.metric]
            estimate = _difference(table, cell, to) if to else cell and cell.value
            # An interval goes under its value: side by side they would need twice the width.
            text = estimate.text(DIGITS, sign=to is not None) if estimate else MISSING
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
            "each scaled to its own t."
        )
    names = [_label(table, variant) for variant in _compared_to(table)]
    both = " and to ".join(names)
    counted = [_header(column) for column in spec.columns if column.in_composite]
    composite = "all columns" if len(counted) == len(spec.columns) else f"the columns {', '.join(counted)}"
    lines = [
        f"Value [interval]; {over} Items of one document count as one.",
        f"Differences are paired (same seeds, same items) to {both}; each interval "
        "is for its difference alone.",
        f"Composite: mean over {composite} of the paired difference, positive is better, in units of the "
        f"between-item standard deviation of {_label(table, spec.baseline)}; verdicts use Holm-adjusted "
        f"p-values at {1 - spec.level:.2g}.",
    ]
    if table.n_runs < SEEDS_TO_CLAIM:
        lines.append(f"Nothing is claimed from fewer than {SEEDS_TO_CLAIM} seeds.")
    if len(names) > 1:
        lines.append(
            f"Verdicts are those against {names[0]}; p-values against {names[1]} are Holm-adjusted among "
            "themselves. Detectable: the difference that would have been found with 80 % probability."
        )
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


def _compared_to(table: Table) -> tuple[str, ...]:
    """The variants that all others are compared with, that of the verdicts first."""
    return tuple(dict.fromkeys((table.spec.reference, table.spec.baseline)))


def _difference_title(table: Table, to: str) -> str:
    items_only = ", intervals over items only" if table.n_runs == 1 else ""
    tokens = table.spec.baseline_at if to == table.spec.baseline else "at equal tokens"
    return f"Difference to {_label(table, to)} {tokens}{items_only}"


def _difference(table: Table, cell: Cell | None, to: str) -> Estimate | None:
    if cell is None:
        return None
    return cell.difference if to == table.spec.reference else cell.to_baseline


def _contrasts(table: Table, to: str) -> Mapping[str, Contrast | None]:
    return table.verdicts if to == table.spec.reference else table.against_baseline


def _difference_rows(table: Table, to: str) -> Iterator[list[str]]:
    for row in table.spec.rows:
        if row.variant == to:
            continue
        texts = [row.label]
        for column in table.spec.columns:
            cell = table.cells[row.variant, column.task, column.metric]
            estimate = _difference(table, cell, to)
            texts.append(estimate.text(DIGITS, sign=True) if estimate else MISSING)
        yield [*texts, *_contrast_cells(table, row, to)]


def verdict_texts(verdict: Verdict | None, reference: str) -> tuple[str, str, str, str]:
    """Composite, adjusted p-value, detectable difference and outcome against the reference's label."""
    if verdict is None:
        return MISSING, MISSING, MISSING, MISSING
    return (
        verdict.composite.text(DIGITS, sign=True),
        number(verdict.p_holm, DIGITS),
        number(verdict.detectable, DIGITS),
        f"{verdict.outcome} {reference}",
    )


def _contrast_headers(table: Table, to: str) -> tuple[str, ...]:
    return ("composite", *(("verdict",) if to == table.spec.reference else ("Holm-adjusted p", "detectable")))


def _contrast_cells(table: Table, row: Row, to: str) -> tuple[str, ...]:
    contrast = _contrasts(table, to)[row.variant]
    if contrast is None:
        return (MISSING,) * len(_contrast_headers(table, to))
    composite = contrast.composite.text(DIGITS, sign=True)
    if to == table.spec.reference:
        return composite, f"{_outcome(table, row, to)} {_label(table, to)}"
    errors = (contrast.p_holm, contrast.detectable)
    return composite, *(number(error, DIGITS) for error in errors)


def _outcome(table: Table, row: Row, to: str) -> str:
    if to != table.spec.reference:
        return ""
    verdict = table.verdicts[row.variant]
    return verdict.outcome if verdict else MISSING


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
