"""Writes the README's tables out of the committed results: `make docs`.

A block stands between ``<!-- results: NAME -->`` and ``<!-- end -->``; a test holds every block to what this
writes, so that the README cannot say what the results do not.
"""

import csv
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airlab.reporting.formats import escape, number, p_text
from airlab.stats.estimate import Estimate

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "results"
_BLOCK = re.compile(r"(<!-- results: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_MASKED = ("intact", "random", "same_layer", "retrieval")
_MASKING_ROWS = {
    "key retrieval, accuracy (chance 0.17) ↑": ("key_retrieval", "acc_norm"),
    "copying, nats a byte ↓": ("copying", "answer_nats"),
    "worked reasoning, nats a byte ↓": ("reasoning_worked", "answer_nats"),
    "next passage, accuracy (chance 0.25) ↑": ("next_passage", "acc_norm"),
}


def filled(text: str) -> str:
    """The README with every block as the results have it.

    Raises KeyError for a block that nothing writes.
    """
    return _BLOCK.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[4], text)


def verdicts(folder: str) -> str:
    """Every arm of a table against random at equal tokens."""
    lines = [
        "| arm | composite against random | Holm-adjusted p | detectable |",
        "|---|---:|---:|---:|",
    ]
    for name, verdict in _verdicts(folder).items():
        composite = Estimate(**verdict["composite"]).text(2, sign=True)
        numbers = (composite, p_text(verdict["p_holm"]), number(verdict["detectable"], 2))
        lines.append("| " + " | ".join(map(escape, (name.replace("_", " "), *numbers))) + " |")
    return "\n".join(lines) + "\n"


def goals(folder: str) -> str:
    """Every arm of a table against random, over all columns and on each goal; bold where told from random."""
    with (RESULTS / folder / "goals.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    named = list(dict.fromkeys(row["goal"] for row in rows))
    by_key = {(row["goal"], row["variant"]): row for row in rows}
    lines = [
        f"| arm | all columns | {' | '.join(named)} |",
        f"|---|{'---:|' * (1 + len(named))}",
    ]
    for name, verdict in _verdicts(folder).items():
        cells = [_composite(verdict)]
        cells += [_told(**by_key[goal, name]) for goal in named]
        lines.append(f"| {escape(name.replace('_', ' '))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def shares(**folders: str) -> str:
    """Every arm of tables that differ in one thing, against random; bold where told from random."""
    told = {}
    for heading, folder in folders.items():
        told[heading] = {name: _composite(verdict) for name, verdict in _verdicts(folder).items()}
    arms = dict.fromkeys(name for cells in told.values() for name in cells)
    lines = [
        f"| arm | {' | '.join(heading.replace('_', ' ') for heading in told)} |",
        f"|---|{'---:|' * len(told)}",
    ]
    for name in arms:
        cells = (cells.get(name, "") for cells in told.values())
        lines.append(f"| {escape(name.replace('_', ' '))} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _verdicts(folder: str) -> dict[str, Any]:
    """What is said of every arm of a table, by its name."""
    found = json.loads((RESULTS / folder / "estimates.json").read_text(encoding="utf-8"))
    verdicts: dict[str, Any] = found["verdicts"]
    return verdicts


def _composite(verdict: Mapping[str, Any]) -> str:
    return _told(**verdict["composite"], outcome=verdict["outcome"])


def _told(value: float | str, low: float | str, high: float | str, outcome: str, **_: object) -> str:
    """A composite with its interval, bold if it is told from random."""
    text = escape(f"{float(value):+.2f} [{float(low):+.2f}, {float(high):+.2f}]")
    return f"**{text}**" if outcome in ("beat", "lost to") else text


def masking() -> str:
    """What SmolLM2-135M loses with heads masked: the lines where arms differ most, and plain text."""
    path = RESULTS / "attention_influence" / "masking_check" / "h100" / "masking.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "here"]
    value = {(r["task"], r["metric"], r["arm"]): r["value"] for r in rows if r["quantity"] == "value"}
    composite = {
        r["reference"]: float(r["value"]) for r in rows if (r["task"], r["arm"]) == ("all", "retrieval")
    }
    lines = [
        "| | intact | random heads | random heads of the same layers | retrieval heads |",
        "|---|---:|---:|---:|---:|",
    ]
    for label, task in _MASKING_ROWS.items():
        lines.append(
            f"| {label} | " + " | ".join(f"{float(value[*task, arm]):.2f}" for arm in _MASKED) + " |"
        )
    against = [composite["intact"] - composite[arm] for arm in ("random", "same_layer")]
    lines.append(
        f"| composite against intact | | {against[0]:.2f} | {against[1]:.2f} | {composite['intact']:.2f} |"
    )
    return "\n".join(lines) + "\n"


BLOCKS: dict[str, Callable[[], str]] = {
    "main": lambda: verdicts("attention_influence/main/laptop"),
    "selector_size": lambda: verdicts("attention_influence/selector_size/h100"),
    "continued": lambda: goals("attention_influence/continued/h100"),
    "air": lambda: shares(a_quarter_of_the_tokens="air/main/h100", a_tenth="air/tenth/h100"),
    "masking": masking,
}


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
