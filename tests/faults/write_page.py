"""Writes docs/faults.md, and the README's figures, out of what the fault suite counted: `make test-faults`.

Usage: AIRLAB_FAULTS_LEDGER=FILE python -m tests.faults.write_page, after the suite ran in its full form with
the same ledger, at once or folder by folder. The same counts give the same page.
"""

import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
README = ROOT / "README.md"

AREAS = {
    "kills": "Killed and interrupted",
    "disk": "Disks",
    "data": "Broken data",
    "numbers": "Numbers that are none",
    "identity": "Identity",
    "hostile": "Hostile files",
    "load": "Load",
    "supply_chain": "Supply chain",
}
"""Folders below tests/faults, in the order of the page, and what it calls them."""

_INTERRUPTED = 2
"""What pytest leaves with where somebody stopped it."""
_BLOCK = re.compile(r"(<!-- faults -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_ROW = re.compile(r"\| (?P<what>.+) \| (?P<faults>[\d,]+) \| (?P<inputs>[\d,]+) \| (?P<lost>[\d,]+) \|")


@dataclass(frozen=True)
class Counts:
    """Faults survived, inputs tried, and records lost."""

    faults: int = 0
    inputs: int = 0
    lost: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.faults + other.faults, self.inputs + other.inputs, self.lost + other.lost)


@dataclass(frozen=True)
class Suite:
    """What runs of the whole suite counted, and the tests that did.

    Attributes:
        counts: by area and by what was broken.
        code: digest of what was broken, see `tests.faults.ledger`.
    """

    counts: dict[str, dict[str, Counts]]
    passed: int
    skipped: int
    code: str

    @property
    def total(self) -> Counts:
        """Over everything."""
        return _sum(of for area in self.counts.values() for of in area.values())

    @property
    def sentence(self) -> str:
        """What the README says."""
        total = self.total
        return (
            f"{total.faults:,} faults survived, {total.inputs:,} hostile or broken inputs tried, "
            f"{total.lost:,} records lost."
        )


class Unusable(Exception):
    """The ledger is not of a whole suite that passed."""


def read(lines: Iterable[str]) -> Suite:
    """A ledger: what tests counted, and how their sessions ended.

    Sessions of the same code may each have run some of the folders; of one that several ran the last counts.
    One that was cut off says nothing, and one that failed anything is not made up for by any other.

    Raises:
        Unusable: they did not run every folder whole, one failed or was the short form, or a record is lost.
    """
    rows = [json.loads(line) for line in lines if line.strip()]
    begun = {row["session"]: row for row in rows if "form" in row}
    ended = {row["session"]: row for row in rows if "status" in row and row["status"] != _INTERRUPTED}
    if not ended:
        raise Unusable("no run of the suite has ended")
    if any(begun[session]["form"] != "full" for session in ended):
        raise Unusable("a run was the short form: run the suite with AIRLAB_FAULTS=full")
    if len(codes := {row["code"] for row in begun.values()}) != 1:
        raise Unusable("the ledger is of several versions of the code: run the whole suite with a new one")
    failed = sum(area["failed"] for row in rows for area in row.get("areas", {}).values())
    if failed or any(end["status"] != 0 for end in ended.values()):
        raise Unusable(f"{failed} tests failed: mend them, or delete the ledger, and run the whole suite")
    areas: dict[str, dict[str, Any]] = {}
    for session, end in ended.items():
        areas |= {name: {"session": session, **area} for name, area in end["areas"].items() if area["whole"]}
    if missing := sorted(set(AREAS) - set(areas)):
        raise Unusable(f"nothing ran the whole of {', '.join(missing)}: run what is missing")
    counts: dict[str, dict[str, Counts]] = {name: {} for name in AREAS}
    for row in rows:
        if "area" in row and row["session"] == areas.get(row["area"], {}).get("session"):
            found = counts[row["area"]]
            counted = Counts(row["faults"], row["inputs"], row["lost"])
            found[row["what"]] = found.get(row["what"], Counts()) + counted
    if unknown := sorted({row["area"] for row in rows if "area" in row} - set(AREAS)):
        raise Unusable(f"the page has no place for {', '.join(unknown)}: add it to AREAS")
    if empty := sorted(name for name, found in counts.items() if not found and name != "supply_chain"):
        raise Unusable(f"nothing was counted of {', '.join(empty)}")  # whose lists break nothing
    passed, skipped = (sum(areas[name][how] for name in AREAS) for how in ("passed", "skipped"))
    suite = Suite({name: found for name, found in counts.items() if found}, passed, skipped, codes.pop())
    if suite.total.lost:
        raise Unusable(f"{suite.total.lost} records were lost")
    return suite


def page(suite: Suite) -> str:
    """The suite's page."""
    lines = [
        "# What was broken on purpose",
        "",
        f"**{suite.sentence}** Counted by {suite.passed:,} tests of `tests/faults` ({suite.skipped:,} "
        "skipped), which write this page when all of them pass in their full form: `make test-faults`. They "
        f"broke the code of digest `{suite.code}`; `python -m tests.faults.ledger` prints that of the "
        "files that are here.",
        "",
        "A fault is survived when what is left is whole, the user is told in a sentence where there is "
        "anything to tell, and the same command goes on to the same bytes. An input is tried when each of "
        "its records is scored, skipped with a reason, quarantined with a reason, or refused by name. A "
        "record is lost when it is none of these.",
    ]
    for area, title in AREAS.items():
        if area in suite.counts:
            counted = suite.counts[area]
            lines += [
                *("", f"## {title}", "", "| what | faults survived | inputs tried | records lost |"),
                "|---|---:|---:|---:|",
                *(_row(what, counted[what]) for what in sorted(counted)),
                _row("**all**", _sum(counted.values())),
            ]
    return "\n".join(lines) + "\n"


def parse(text: str) -> Suite:
    """The suite that a page is of."""
    tests = re.search(r"Counted by ([\d,]+) tests of `tests/faults` \(([\d,]+) skipped\)", text)
    code = re.search(r"the code of digest `([0-9a-f]+)`", text)
    if tests is None or code is None:
        raise ValueError("this is no page of the fault suite")
    titles = {title: area for area, title in AREAS.items()}
    counts: dict[str, dict[str, Counts]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            area = counts.setdefault(titles[line.removeprefix("## ")], {})
        elif (row := _ROW.fullmatch(line)) and row["what"] != "**all**":
            what = row["what"].replace("\\|", "|")
            area[what] = Counts(*(_number(row[name]) for name in ("faults", "inputs", "lost")))
    return Suite(counts, _number(tests[1]), _number(tests[2]), code[1])


def filled(readme: str, suite: Suite) -> str:
    """The README with the suite's figures in its block."""
    told = f"{suite.sentence} [docs/faults.md](docs/faults.md) lists them.\n"
    return _BLOCK.sub(lambda found: found[1] + told + found[3], readme)


def _row(what: str, counts: Counts) -> str:
    escaped = what.replace("|", "\\|")
    return f"| {escaped} | {counts.faults:,} | {counts.inputs:,} | {counts.lost:,} |"


def _sum(counts: Iterable[Counts]) -> Counts:
    return sum(counts, Counts())


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def main() -> int:
    """Write the page and the README's block; 2 where the ledger is not of a whole suite that passed."""
    try:
        suite = read(Path(os.environ["AIRLAB_FAULTS_LEDGER"]).read_text(encoding="utf-8").splitlines())
    except (Unusable, KeyError, OSError) as error:
        print(f"docs/faults.md stays as it is: {error}", file=sys.stderr)
        return 2
    PAGE.write_text(page(suite), encoding="utf-8", newline="\n")
    README.write_text(filled(README.read_text(encoding="utf-8"), suite), encoding="utf-8", newline="\n")
    print(f"{PAGE.relative_to(ROOT)}: {suite.sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
