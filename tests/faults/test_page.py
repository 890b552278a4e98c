"""docs/faults.md is what the suite wrote, and the README says what it says."""

import json
from typing import Any

import pytest

from tests.faults import write_page
from tests.faults.write_page import AREAS, PAGE, README, Counts, Unusable, filled, page, parse, read

END = {"form": "full", "status": 0, "passed": 7, "failed": 0, "skipped": 1}


def ledger(*rows: dict[str, Any], end: dict[str, Any] = END) -> list[str]:
    """One count of every area, and the rows."""
    every = [{"area": area, "what": "it | them", "faults": 1, "inputs": 2, "lost": 0} for area in AREAS]
    return [json.dumps(row) for row in (*every, *rows, end)]


def test_counts_of_the_same_thing_are_added_and_the_order_is_the_pages_own() -> None:
    rows = [
        {"area": "disk", "what": what, "faults": faults, "inputs": 0, "lost": 0}
        for what, faults in (("b", 1000), ("a", 3), ("b", 500))
    ]
    suite = read(ledger(*rows))
    assert suite.counts["disk"] == {"it | them": Counts(1, 2), "a": Counts(3), "b": Counts(1500)}
    assert suite.total == Counts(len(AREAS) + 1503, 2 * len(AREAS))
    assert page(suite) == page(read(ledger(*reversed(rows))))
    assert page(suite).index("| a | 3 | 0 | 0 |") < page(suite).index("| b | 1,500 | 0 | 0 |")
    assert page(suite).index("## Killed") < page(suite).index("## Disks")


def test_a_page_can_be_read_back() -> None:
    suite = read(ledger())
    assert parse(page(suite)) == suite


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (ledger(end=END | {"form": "short"}), "short form"),
        (ledger(end=END | {"failed": 2, "status": 1}), "2 tests failed"),
        (ledger(end=END | {"status": 2}), "ended with 2"),
        (ledger()[:-1], "does not end"),
        (ledger() + ledger(), "does not end"),
        (ledger()[1:], "nothing was counted of kills"),
        (ledger({"area": "disk", "what": "a", "faults": 0, "inputs": 1, "lost": 1}), "1 records were lost"),
        (ledger({"area": "odd", "what": "a", "faults": 0, "inputs": 1, "lost": 0}), "no place for odd"),
    ],
)
def test_no_page_is_written_of_less_than_the_whole_suite(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, lines: list[str], why: str
) -> None:
    with pytest.raises(Unusable, match=why):
        read(lines)
    (tmp_path / "ledger").write_text("\n".join(lines))
    monkeypatch.setenv("AIRLAB_FAULTS_LEDGER", str(tmp_path / "ledger"))
    monkeypatch.setattr(write_page, "PAGE", tmp_path / "faults.md")
    assert write_page.main() == 2
    assert not (tmp_path / "faults.md").exists()


def test_the_readme_gets_the_figures_in_its_block_alone() -> None:
    suite = read(ledger())
    text = "before\n\n<!-- faults -->\nold\n<!-- end -->\nafter\n<!-- results: main -->\n|\n<!-- end -->\n"
    assert filled(text, suite) == text.replace("old", suite.sentence)


@pytest.mark.skipif(not PAGE.exists(), reason="make test-faults writes docs/faults.md, and has not yet")
def test_the_committed_page_is_of_the_suites_form_and_the_readme_agrees() -> None:
    text = PAGE.read_text(encoding="utf-8")
    suite = parse(text)
    assert page(suite) == text
    assert list(suite.counts) == list(AREAS) and suite.total.lost == 0 and suite.total.faults > 0
    readme = README.read_text(encoding="utf-8")
    assert suite.sentence in readme
    assert filled(readme, suite) == readme
