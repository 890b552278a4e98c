"""What the README says about a committed table is what the table says."""

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
