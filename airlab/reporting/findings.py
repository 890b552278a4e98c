"""What an experiment publishes: a table of its cells, pages beside it, or both."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from airlab.reporting.latex import render_latex
from airlab.reporting.pages import Page, print_page, write_page
from airlab.reporting.render import print_table, write_table
from airlab.reporting.tables import Table


@dataclass(frozen=True)
class Findings:
    """All results of one experiment at one scale."""

    table: Table | None = None
    pages: tuple[Page, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Of the files, without suffixes, in the order they are read."""
        return tuple(self._names())

    def _names(self) -> Iterator[str]:
        if self.table is not None:
            yield "table"
        yield from (page.name for page in self.pages)


def write_findings(folder: Path, findings: Findings) -> None:
    """Write the files of all results into an existing folder."""
    if findings.table is not None:
        write_table(folder, findings.table)
        text = render_latex(findings.table)
        (folder / "table.tex").write_text(text, encoding="utf-8", newline="\n")
    for page in findings.pages:
        write_page(folder, page)


def print_findings(findings: Findings) -> None:
    """Print all results to the terminal."""
    if findings.table is not None:
        print_table(findings.table)
    for page in findings.pages:
        print_page(page)
