"""Names and texts of other people, where they are shown: terminals and spreadsheets obey none of them."""

import csv
import io
import re
import shutil
import sys
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from airlab.cli.status import _show
from airlab.progress import announce
from airlab.reporting.formats import markup, plain
from airlab.reporting.pages import Page, Section, print_page
from airlab.terminal import visible
from tests.faults.ledger import count
from tests.unit.cli.conftest import Airlab

REPOSITORY = Path(__file__).parents[3]

HOSTILE = {
    "a colour": "\x1b[31mred",
    "a cleared screen": "\x1b[2J\x1b[H",
    "a title": "\x1b]0;owned\x07",
    "a link": "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "an 8-bit command": "\x9b31m",
    "a return over the line": "good\rEVIL",
    "backspaces": "good\b\b\b\bEVIL",
    "a turned direction": "safe\u202egpj.exe",
    "an isolated direction": "a\u2066b\u2069",
    "a hidden word": "a\U000e0041\u200bb\ufeff",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_domain_and_an_id_are_shown_and_not_obeyed(airlab: Airlab, case: str) -> None:
    name = HOSTILE[case]
    numbers = {c: [1.0, 2.0] for c in ("loss_base", "loss_ref", "entropy", "attention_influence")}
    table = pa.table({"id": ["a", "b"], "domain": [name] * 2, "n_tokens": [5, 6], **numbers})
    pq.write_table(table, "scores.parquet")
    answer = airlab("select", "scores=scores.parquet", "output=out.parquet")
    assert answer.code == 0 and harmless(answer.out)
    pq.write_table(table.set_column(0, "id", [[name] * 2]), "scores.parquet")
    answer = airlab("select", "scores=scores.parquet", "output=other.parquet")
    assert answer.code == 2 and harmless(answer.err) and "more than once" in answer.err
    count("hostile", "names with commands for a terminal: shown, not obeyed", inputs=2)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_s_name_is_shown_and_not_obeyed(airlab: Airlab, case: str) -> None:
    name = HOSTILE[case].replace("/", "-") + ".parquet"
    answer = airlab("select", f"scores={name}", "output=out.parquet")
    assert answer.code == 2 and harmless(answer.err)
    assert not Path("out.parquet").exists()
    count("hostile", "names with commands for a terminal: shown, not obeyed", inputs=1)


@pytest.mark.parametrize("terminal", [True, False])
def test_names_in_a_store_and_a_page_are_shown_and_not_obeyed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    name = "".join(HOSTILE.values()).replace("\n", "")
    monkeypatch.setattr(Console, "is_terminal", terminal)
    _show([Section(name, ("stage", name), ((name, name),))], [name])
    console = Console(file=sys.stdout, force_terminal=False, width=400)
    print_page(Page("x", name, (Section(name, ("stage",), ((name,),)),), (name,), (), ()), console)
    # Only rich's own colours may be there: a name's are spelt.
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert harmless(out) and "u202egpj" in out
    count("hostile", "names with commands for a terminal: shown, not obeyed", inputs=1)


def test_verify_shows_names_and_obeys_none(airlab: Airlab) -> None:
    name = HOSTILE[next(iter(HOSTILE))].replace("/", "-").replace("\n", "")
    folder = Path("results", name, "main", "laptop")
    folder.mkdir(parents=True)
    shutil.copy(REPOSITORY / "results/attention_influence/main/laptop/lock.json", folder)
    answer = airlab("verify", "results=results")
    assert harmless(answer.out + answer.err)
    count("hostile", "names with commands for a terminal: shown, not obeyed", inputs=1)


def test_a_line_of_progress_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    announce("".join(HOSTILE.values()))
    assert harmless(capsys.readouterr().err)
    count("hostile", "names with commands for a terminal: shown, not obeyed", inputs=1)


@pytest.mark.parametrize(
    "text",
    ["[red]x[/red]", "[link=http://evil]x[/link]", "\\[red]x", "\\\\[red]x", "[/]", "a[b]", "\x1b[31m"],
)
def test_markup_is_shown_as_it_is(text: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=100)
    console.print(markup(text), highlight=False)
    assert console.file.getvalue() == visible(text) + "\n"  # type: ignore[attr-defined]
    count("hostile", "names with commands for a terminal: shown, not obeyed", inputs=1)


@given(st.text())
def test_text_without_commands_is_left_alone(text: str) -> None:
    shown = visible(text)
    assert harmless(shown)
    if all(unicodedata.category(c)[0] != "C" and unicodedata.category(c) not in ("Zl", "Zp") for c in text):
        assert shown == text


def harmless(text: str) -> bool:
    return all(
        c in "\n\t\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") for c in text
    )


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＠x", '=HYPERLINK("http://evil")']


@pytest.mark.parametrize("name", FORMULAS)
def test_a_name_is_no_formula_in_a_spreadsheet(name: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([plain(name), "x"])
    (cells,) = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert cells == [f"'{name}", "x"]
    count("hostile", "names that are formulas: text in a spreadsheet", inputs=1)
