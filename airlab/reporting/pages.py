"""A page of grids: results that are no table of cells, as Markdown, CSV and on the terminal."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from airlab.reporting.formats import escape, grid, markup, plain
from airlab.terminal import visible


@dataclass(frozen=True)
class Section:
    """One grid of texts; the first column names the row. A value's interval stands behind it in brackets."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Page:
    """What one question's answer is shown as.

    Attributes:
        name: of its files, without suffix.
        foot: sentences below the grids: what the numbers are.
        csv_header, csv_rows: the same results in long form, numbers unrounded and unknown ones empty.
    """

    name: str
    title: str
    sections: tuple[Section, ...]
    foot: tuple[str, ...]
    csv_header: tuple[str, ...]
    csv_rows: tuple[tuple[str, ...], ...]


def write_page(folder: Path, page: Page) -> None:
    """Write ``<name>.md`` and ``<name>.csv`` into an existing folder."""
    (folder / f"{page.name}.md").write_text(render_page(page), encoding="utf-8", newline="\n")
    (folder / f"{page.name}.csv").write_text(render_csv(page), encoding="utf-8", newline="")


def render_page(page: Page) -> str:
    """The whole page as Markdown."""
    lines = [f"# {escape(page.title)}"]
    for section in page.sections:
        lines += ["", f"## {escape(section.title)}", "", *grid(section.headers, section.rows)]
    lines += ["", *(f"{escape(line)}  " for line in page.foot)]
    return "\n".join(lines).rstrip() + "\n"


def render_csv(page: Page) -> str:
    """The long form. A text that a spreadsheet would take for a formula is quoted; numbers are not."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(page.csv_header)
    writer.writerows([text if _is_number(text) else plain(text) for text in row] for row in page.csv_rows)
    return out.getvalue()


def print_page(page: Page, console: Console | None = None) -> None:
    """Print the page to the terminal."""
    console = console or Console()
    console.print(visible(page.title), markup=False, highlight=False)
    for section in page.sections:
        shown = RichTable(title=markup(section.title), title_justify="left")
        for number, header in enumerate(section.headers):
            shown.add_column(markup(header), justify="right" if number else "left")
        for row in section.rows:
            # An interval goes under its value: side by side they would need twice the width.
            shown.add_row(*(markup(text.replace(" [", "\n[", 1)) for text in row))
        console.print(shown)
    for line in page.foot:
        console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


def numbers(*values: float | int | None) -> Iterable[str]:
    """Numbers as a page's long form holds them: unrounded, unknown ones empty."""
    return ("" if value is None else repr(value) for value in values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
