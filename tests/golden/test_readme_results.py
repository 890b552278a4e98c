"""What the README says about a committed table is what the table says."""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "results" / "attention_influence" / "main" / "laptop" / "table.md"


def verdicts(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"- .* random: composite", line)]


def test_the_readme_quotes_every_verdict_of_the_committed_table() -> None:
    committed = verdicts(TABLE.read_text(encoding="utf-8"))
    assert len(committed) >= 6
    assert verdicts((ROOT / "README.md").read_text(encoding="utf-8")) == committed


def test_the_readme_quotes_the_committed_masking_check() -> None:
    path = ROOT / "results" / "attention_influence" / "masking_check" / "h100" / "masking.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "here"]
    value = {(r["task"], r["metric"], r["arm"]): r["value"] for r in rows if r["quantity"] == "value"}
    composite = {
        r["reference"]: float(r["value"]) for r in rows if (r["task"], r["arm"]) == ("all", "retrieval")
    }
    quoted = {
        "key retrieval, accuracy (chance 0.17)": ("key_retrieval", "acc_norm"),
        "copying, nats a byte ↓": ("copying", "answer_nats"),
        "worked reasoning, nats a byte ↓": ("reasoning_worked", "answer_nats"),
        "next passage, accuracy (chance 0.25)": ("next_passage", "acc_norm"),
    }
    readme = {
        cells[0]: cells[1:]
        for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
        for cells in [[cell.strip(" *") for cell in line.strip("|").split("|")]]
    }
    arms = ("intact", "random", "same_layer", "retrieval")
    for label, task in quoted.items():
        assert readme[label] == [f"{float(value[*task, arm]):.2f}" for arm in arms], label
    against = [composite["intact"] - composite[arm] for arm in ("random", "same_layer")]
    assert readme["composite against intact"] == ["", *(f"{x:.2f}" for x in (*against, composite["intact"]))]


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
