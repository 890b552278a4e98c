"""docs/faults.md is what the suite wrote, and the README says what it says."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults import write_page
from tests.faults.ledger import code_digest
from tests.faults.write_page import AREAS, PAGE, README, Counts, Unusable, filled, page, parse, read

CODE = "0123abcd"
PASSED = {"passed": 7, "failed": 0, "skipped": 1, "whole": True}


def session(
    *rows: dict[str, Any],
    name: str = "first",
    code: str = CODE,
    form: str = "full",
    status: int = 0,
    **areas: Any,
) -> list[str]:
    """What a session that ran these areas tells: one count of each, and the rows."""
    every = [{"area": area, "what": "it | them", "faults": 1, "inputs": 2, "lost": 0} for area in areas]
    begin: dict[str, Any] = {"form": form, "code": code}
    end: dict[str, Any] = {"status": status, "areas": areas}
    return [json.dumps({"session": name, **row}) for row in (begin, *every, *rows, end)]


def ledger(*rows: dict[str, Any], **how: Any) -> list[str]:
    """Of one session that ran everything."""
    areas: dict[str, Any] = dict.fromkeys(AREAS, PASSED)
    return session(*rows, **(areas | how))


def without(area: str) -> list[str]:
    """Of one that left an area out."""
    areas: dict[str, Any] = {name: PASSED for name in AREAS if name != area}
    return session(**areas)


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


def test_sessions_of_one_version_are_one_suite_and_the_last_of_a_folder_counts() -> None:
    more = {"area": "disk", "what": "more", "faults": 5, "inputs": 0, "lost": 0}
    cut_off = session(more, kills=PASSED, disk=PASSED, name="cut off")[:-1]
    suite = read(
        [
            *cut_off,
            *without("disk"),
            *session(disk=PASSED, name="second"),
            *session(more, disk=PASSED | {"passed": 9}, name="third"),
        ]
    )
    assert suite.counts["disk"] == {"it | them": Counts(1, 2), "more": Counts(5)}
    assert suite.total == Counts(len(AREAS) + 5, 2 * len(AREAS))
    assert (suite.passed, suite.skipped, suite.code) == (7 * len(AREAS) + 2, len(AREAS), CODE)


def test_the_code_is_known_by_what_is_in_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("constraints.txt", "tests/a.py", "README.md"):
        (tmp_path / name).write_text("a")
    monkeypatch.setattr("tests.faults.ledger.ROOT", tmp_path)
    digests = [code_digest()]
    for name in ("README.md", "constraints.txt", "tests/a.py", "tests/b.py"):
        (tmp_path / name).write_text("b")
        digests.append(code_digest())
    assert digests[0] == digests[1] and len(set(digests)) == 4


def test_a_page_can_be_read_back() -> None:
    suite = read(ledger())
    assert parse(page(suite)) == suite


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (ledger(form="short"), "short form"),
        (ledger(kills=PASSED | {"failed": 2}, status=1), "2 tests failed"),
        (ledger(status=3), "0 tests failed"),
        (ledger()[:-1], "no run of the suite has ended"),
        (ledger(status=2), "no run of the suite has ended"),
        (without("kills"), "nothing ran the whole of kills"),
        (ledger(kills=PASSED | {"whole": False}), "nothing ran the whole of kills"),
        (without("kills") + session(kills=PASSED, name="second", code="f"), "several versions of the code"),
        (without("kills") + session(kills=PASSED, name="second")[:-1], "nothing ran the whole of kills"),
        (without("kills") + session(kills=PASSED, name="second", status=2), "nothing ran the whole of kills"),
        (
            ledger(kills=PASSED | {"failed": 1}, status=1) + session(kills=PASSED, name="second"),
            "1 tests failed",
        ),
        ([line for line in ledger() if '"kills", "what"' not in line], "nothing was counted of kills"),
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
    assert filled(text, suite) == text.replace(
        "old", f"{suite.sentence} [docs/faults.md](docs/faults.md) lists them."
    )


@pytest.mark.skipif(not PAGE.exists(), reason="make test-faults writes docs/faults.md, and has not yet")
def test_the_committed_page_is_of_the_suites_form_and_the_readme_agrees() -> None:
    text = PAGE.read_text(encoding="utf-8")
    suite = parse(text)
    assert page(suite) == text
    assert list(suite.counts) == list(AREAS) and suite.total.lost == 0 and suite.total.faults > 0
    readme = README.read_text(encoding="utf-8")
    assert suite.sentence in readme
    assert filled(readme, suite) == readme
