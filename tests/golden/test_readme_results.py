"""What the README says about a committed table is what the table says."""

import csv
import re
from pathlib import Path

from tests.docs_scripts import load

ROOT = Path(__file__).parents[2]
writer = load("readme")


def test_the_readmes_tables_are_the_committed_results() -> None:
    text = writer.README.read_text(encoding="utf-8")
    assert writer.filled(text) == text, "run `make docs` and commit README.md"
    shown = {name for _, name, _, _ in writer._BLOCK.findall(text)}
    assert shown == writer.BLOCKS.keys()


def test_a_readme_that_says_other_numbers_is_noticed() -> None:
    text = writer.README.read_text(encoding="utf-8")
    for name, written in ((name, block()) for name, block in writer.BLOCKS.items()):
        assert written in text
        changed = text.replace(written, re.sub(r"\d", "7", written))
        assert changed != text and writer.filled(changed) == text, name


def test_the_readme_counts_what_the_committed_audit_holds() -> None:
    path = ROOT / "results" / "attention_influence" / "controls" / "laptop" / "audit.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (explained,) = (
        float(row["value"])
        for row in rows
        if (row["selector"], row["quantity"]) == ("attention_influence", "r_squared")
    )
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"an audit of {len({row['selector'] for row in rows})} selectors" in readme
    assert (
        f"[explain {explained:.0%}]({path.relative_to(ROOT).with_suffix('.md')})".replace("%", " %") in readme
    )
