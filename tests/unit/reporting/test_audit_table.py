"""The audit's rendering says what was found, calls unknown what is, and is written where a lock says."""

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from airlab.reporting.audit import AuditTable, audit_page
from airlab.reporting.findings import Findings, write_findings
from airlab.reporting.pages import Page, print_page, render_csv, render_page
from airlab.selection.audit import Association, Audit, Composition, Interval, Overlap, Remainder
from tests.golden.test_table_golden import table as golden_table

PLANTED = Audit(
    n_units=50,
    associations=(Association("influence", "length", 0.5, 0.25), Association("flat", "length", None, None)),
    remainders=(
        Remainder("influence", 0.6, 0.1, {"length": -0.001}, 0.9),
        Remainder("flat", None, None, {"length": None}, None),
    ),
    intervals=(
        *(Interval("influence", "length", s, -0.1, 0.7) for s in ("spearman", "within_domain")),
        Interval("influence", "length", "partial", None, None),
        *(Interval("flat", "length", s, None, None) for s in ("spearman", "within_domain", "partial")),
    ),
    overlaps=(Overlap("influence", "flat", 0.25, 0.4), Overlap("flat", "influence", 0.25, 0.8)),
    compositions=(
        Composition("influence", "code", 4, 900, 0.5, 225.0, 100.0),
        Composition("influence", "prose", 6, 1100, 0.5, 1100 / 6, 100.0),
        Composition("flat", "code", 10, 1000, 0.5, 100.0, 100.0),
        Composition("flat", "prose", 0, 0, 0.0, None, 100.0),
    ),
)
PAGE = audit_page(AuditTable("Planted", PLANTED, "influence", 20))


def test_every_number_stands_where_it_belongs() -> None:
    over_all, within, partial, remains, selected = PAGE.sections
    assert over_all.rows == (("influence", "+0.50 [-0.10, +0.70]"), ("flat", "unknown"))
    assert within.rows[0] == ("influence", "+0.25 [-0.10, +0.70]")
    assert partial.rows == (("influence", "+0.00 [unknown]"), ("flat", "unknown"))
    assert remains.rows == (("influence", "0.60", "0.10", "0.90"), ("flat", *["unknown"] * 3))
    assert selected.rows[0] == ("influence", "10", "2,000", "200", "–", "–", "–")
    assert selected.rows[1] == ("flat", "10", "1,000", "100", "0.25", "80%", "40%")
    for section in PAGE.sections:
        assert {len(row) for row in section.rows} == {len(section.headers)}


def test_the_spreadsheet_holds_everything_and_leaves_the_unknown_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(PAGE))))
    found = {(r["selector"], r["quantity"], r["against"]): (r["value"], r["low"], r["high"]) for r in rows}
    assert len(found) == len(rows) == 2 * 3 + 2 * 3 + 2 * 2 + 4 * 4
    assert found["influence", "spearman", "length"] == ("0.5", "-0.1", "0.7")
    assert found["influence", "partial", "length"] == ("-0.001", "", "")
    assert found["flat", "spearman", "length"] == ("", "", "")
    assert found["flat", "mean_tokens", "prose"] == ("", "", "")


def test_the_terminal_shows_what_the_page_shows() -> None:
    console = Console(width=200, file=io.StringIO(), force_terminal=False)
    print_page(PAGE, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for section in PAGE.sections:
        for text in (cell for row in section.rows for cell in row):
            assert all(part in shown for part in text.replace(" [", "\n[").split("\n")), text


def test_a_selector_that_was_not_audited_cannot_be_compared_with() -> None:
    with pytest.raises(ValueError, match="no selector nobody"):
        AuditTable("Planted", PLANTED, "nobody", 20)


def test_names_that_a_lock_gets_are_those_of_the_files(tmp_path: Path) -> None:
    table, pages = golden_table(), (PAGE,)
    for name, findings in (
        ("main", Findings(table)),
        ("controls", Findings(table, pages)),
        ("alone", Findings(pages=pages)),
    ):
        (tmp_path / name).mkdir()
        write_findings(tmp_path / name, findings)
        for suffix in (".md", ".csv"):
            assert {p.stem for p in (tmp_path / name).glob(f"*{suffix}")} == set(findings.names)
    assert (tmp_path / "controls" / "audit.md").read_text(encoding="utf-8") == render_page(PAGE)


def test_a_formula_in_a_name_is_text_and_a_negative_number_stays_one() -> None:
    page = Page("p", "P", (), (), ("name", "value"), (("=1+1", "-0.5"), ("-x", "")))
    assert list(csv.reader(io.StringIO(render_csv(page))))[1:] == [["'=1+1", "-0.5"], ["'-x", ""]]
