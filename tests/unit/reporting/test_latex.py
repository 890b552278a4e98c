"""`table.tex`: every sign is the one that was meant, and what comes out is a document's table."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airlab.reporting.latex import render_latex, tex
from airlab.reporting.render import foot
from airlab.reporting.tables import Row, Table, TableSpec, build_table
from tests.golden.test_table_golden import table as golden_table

READ_BACK = {
    r"\textbackslash{}": "\\",
    r"\textasciicircum{}": "^",
    r"\textasciitilde{}": "~",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"{\ttfamily\char34}": '"',
    r"\textquotesingle{}": "'",
    r"\textasciigrave{}": "`",
    r"$\uparrow$": "↑",
    r"$\downarrow$": "↓",
    r"$\times$": "×",
    r"$\geq$": "≥",
    r"$\leq$": "≤",
    "$-$": "−",
    "{[}": "[",
    "{]}": "]",
    "{}": "",
    **{f"\\{c}": c for c in "{}$&#_%"},
}
"""What LaTeX shows for what is written; written by hand, not taken from the code."""

SPECIAL = set("\\{}$&#_%^~<>|\"'`")


def shown(written: str) -> str:
    """What LaTeX shows: whatever is special must be part of a known spelling."""
    found = ""
    while written:
        spelling = next((s for s in sorted(READ_BACK, key=len, reverse=True) if written.startswith(s)), None)
        assert spelling or written[0] not in SPECIAL, written
        assert not re.match(r"--|,,", written), "two signs that LaTeX joins to one"
        found += READ_BACK[spelling] if spelling else written[0]
        written = written[len(spelling or written[0]) :]
    return found


@given(st.text(st.one_of(st.sampled_from("\\{}$&#_%^~<>|\"'`[]-,!?↑↓×≥≤− \n\t\0"), st.characters())))
def test_every_text_is_shown_as_it_is_on_one_line(text: str) -> None:
    expected = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    written = tex(text)
    assert shown(written) == expected
    assert "\n" not in written


@pytest.fixture(scope="module")
def table() -> Table:
    return golden_table()


def named_badly(table: Table) -> Table:
    """The same numbers under names that are LaTeX."""
    spec = table.spec
    names = iter([r"50% & more_of {it}", "$x^2$ \\input{/etc/passwd}", "~ # ``quoted'' -- [a], <b>"])
    rows = tuple(Row(row.variant, next(names)) for row in spec.rows)
    columns = tuple(replace(column, label=f"{column.label} \\\\ %[{{&") for column in spec.columns)
    spec = replace(spec, title="A_title & 100 %\\", rows=rows, columns=columns, notes=("[note] 5 % ↑",))
    return replace(table, spec=spec)


def floats(text: str) -> list[str]:
    found = re.findall(r"\\begin\{table\}.*?\\end\{table\}", text, re.DOTALL)
    rest = re.sub(r"\\begin\{table\}.*?\\end\{table\}", "", text, flags=re.DOTALL)
    assert [line for line in rest.splitlines() if line and not line.startswith("%")] == []
    return found


@pytest.mark.parametrize("name", ["as it is", "named badly"])
def test_every_row_has_as_many_cells_as_the_float_has_columns(table: Table, name: str) -> None:
    for text in floats(render_latex(named_badly(table) if name == "named badly" else table)):
        lines = text.splitlines()
        columns = re.search(r"^\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}$", text, re.MULTILINE)
        assert columns is not None
        order = [lines.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
        assert order == sorted(order)
        rows = [line for line in lines[order[0] + 1 : order[2]] if line.endswith(r" \\")]
        assert len(rows) > 1
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns[1]) - 1, row
        opened = re.findall(r"(?<!\\)[{}]", text.replace("\\\\", ""))
        assert opened.count("{") == opened.count("}")
        assert "\\input" not in text and r"\toprule" in text and r"\hline" not in text


def test_the_floats_hold_the_tables_numbers_arrows_and_all_of_its_notes(table: Table) -> None:
    verdicts, baseline, values, differences = floats(render_latex(table))
    caption = re.search(r"\\caption\[.*?\]\{(.*)\}$", verdicts, re.MULTILINE)
    assert caption is not None
    told = shown(caption[1])
    assert told == f"{table.spec.title}: composites against random. " + " ".join(foot(table))
    for said in ("over 2 seeds (0, 1)", "4M target, 1M tokens", "Holm-adjusted p-values", "95 % intervals"):
        assert said in told
    composite = table.verdicts["influence"].composite
    interval = f"$[{composite.low:+.3f},\\,{composite.high:+.3f}]$"
    assert f"attention influence & ${composite.value:+.3f}$ & {interval} & " in verdicts
    assert "did not beat" in verdicts and "did not beat" not in baseline
    assert table.verdicts["influence"].p_holm is not None
    assert f"& {table.verdicts['influence'].p_holm:.3f} &" in verdicts
    assert r"prose, bits per byte $\downarrow$ & " in values and r"key retrieval $\uparrow$ & " in values
    cell = table.cells["random", "key_retrieval", "acc"]
    assert cell is not None and f"${cell.value.value:.3f}$" in values
    heads = next(line for line in differences.splitlines() if line.startswith("task & "))
    assert "random" not in heads and r"full\\pool" in heads


def test_many_arms_go_on_in_further_floats_and_none_is_left_out(table: Table) -> None:
    records: dict[str, list] = {}
    names = [f"arm {number}" for number in range(8)]
    rows = (*table.spec.rows[:2], *(Row(name, name) for name in names))
    spec = TableSpec("Many", rows, table.spec.columns, table.spec.seeds)
    text = render_latex(build_table(spec, records, partial=True))
    values = [part for part in floats(text) if ": Values" in part]
    assert len(values) == 4 and all(f"({n} of 4)" in part for n, part in enumerate(values, 1))
    heads = " ".join(
        next(line for line in part.splitlines() if line.startswith("task & ")) for part in values
    )
    for name in names:
        assert name.replace(" ", r"\\") in heads
    assert "missing" in text, "holes are said"


@pytest.mark.parametrize("name", ["as it is", "named badly"])
def test_a_real_tex_takes_it(table: Table, name: str, tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no pdflatex on this machine")
    text = render_latex(named_badly(table) if name == "named badly" else table)
    (tmp_path / "table.tex").write_text(text, encoding="utf-8")
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\\listoftables\n"
        "\\input{table}\\end{document}\n"
    )
    for _ in range(2):  # the second reads what the first wrote into the list of tables
        done = subprocess.run(
            [program, "-halt-on-error", "-interaction=nonstopmode", "paper.tex"],
            cwd=tmp_path, capture_output=True, text=True, errors="replace",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "paper.log").read_text(errors="replace")
    if name == "as it is":
        assert "Overfull" not in done.stdout
