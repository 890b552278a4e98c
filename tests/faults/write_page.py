"""Writes docs/faults.md, and the README's figures, out of what the fault suite counted: `make test-faults`.

Usage: AIRLAB_FAULTS_LEDGER=FILE python -m tests.faults.write_page, after the suite ran in its full form with
the same ledger. The same counts give the same page.
"""

import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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
    """What one run of the whole suite counted, and the tests that did.

    Attributes:
        counts: by area and by what was broken.
    """

    counts: dict[str, dict[str, Counts]]
    passed: int
    skipped: int

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
    """A ledger: what tests counted, and how their session ended.

    Raises:
        Unusable: the suite was not run to its end, failed, was the short form, or lost a record.
    """
    rows = [json.loads(line) for line in lines if line.strip()]
    ends = [row for row in rows if "form" in row]
    if len(ends) != 1 or rows[-1] is not ends[0]:
        raise Unusable("the ledger does not end with one run's end: run the whole suite with a new one")
    (end,) = ends
    if end["form"] != "full":
        raise Unusable("this was the short form: run the suite with AIRLAB_FAULTS=full")
    if end["failed"] or end["status"] != 0:
        raise Unusable(
            f"{end['failed']} tests failed, and the run ended with {end['status']}: no page of that"
        )
    counts: dict[str, dict[str, Counts]] = {}
    for row in rows[:-1]:
        area = counts.setdefault(row["area"].replace(" ", "_"), {})
        counted = Counts(row["faults"], row["inputs"], row["lost"])
        area[row["what"]] = area.get(row["what"], Counts()) + counted
    if unknown := sorted(set(counts) - set(AREAS)):
        raise Unusable(f"the page has no place for {', '.join(unknown)}: add it to AREAS")
    if missing := sorted(set(AREAS) - set(counts) - {"supply_chain"}):  # whose lists break nothing
        raise Unusable(f"nothing was counted of {', '.join(missing)}: run the whole suite")
    suite = Suite(counts, end["passed"], end["skipped"])
    if suite.total.lost:
        raise Unusable(f"{suite.total.lost} records were lost")
    return suite


def page(suite: Suite) -> str:
    """The suite's page."""
    lines = [
        "# What was broken on purpose",
        "",
        f"**{suite.sentence}** Counted by {suite.passed:,} tests of `tests/faults` ({suite.skipped:,} "
        "skipped), which write this page when all of them pass in their full form: `make test-faults`.",
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
    if tests is None:
        raise ValueError("this is no page of the fault suite")
    titles = {title: area for area, title in AREAS.items()}
    counts: dict[str, dict[str, Counts]] = {}
    for line in text.splitlines():
        if line.startswith("## "):
            area = counts.setdefault(titles[line.removeprefix("## ")], {})
        elif (row := _ROW.fullmatch(line)) and row["what"] != "**all**":
            what = row["what"].replace("\\|", "|")
            area[what] = Counts(*(_number(row[name]) for name in ("faults", "inputs", "lost")))
    return Suite(counts, *(_number(number) for number in tests.groups()))


def filled(readme: str, suite: Suite) -> str:
    """The README with the suite's figures in its block."""
    return _BLOCK.sub(lambda found: found[1] + suite.sentence + "\n" + found[3], readme)


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
