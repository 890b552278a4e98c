"""The page of results: whatever is in a folder stays text, and every number leads to where it came from."""

import base64
import csv
import hashlib
import itertools
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airlab.cli.report import TITLE, page_of, reading_order
from airlab.errors import UserError
from airlab.reporting.figures import draw_all
from airlab.reporting.figures.results import ESTIMATES
from airlab.reporting.lock import LOCK, read_lock
from airlab.reporting.page.claims import claims
from airlab.reporting.page.question import question
from airlab.reporting.page.read import Published, parse, read_published
from airlab.reporting.page.render import linked, shown
from airlab.reporting.pages import Page, Section, render_page, write_page
from airlab.reporting.token_maps import EXAMPLES
from tests.unit.reporting.page.page_reader import Element, read_page

RESULTS = Path(__file__).parents[4] / "results"
MAIN = RESULTS / "attention_influence" / "main" / "laptop"
HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '" onmouseover="alert(1)" x="',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% include 'page.css' %}",
    "\u202eright to left\u202c",
    "\x1b[31mred\x07\x00",
    "&lt;b&gt; &amp; <!--",
    "]]>--></td></table>",
]


def published(folder: Path, experiment: str = "some/experiment", scale: str = "laptop") -> Published:
    return read_published(folder, experiment, scale)


def page(*found: Published, output: Path, title: str = "A title") -> str:
    return page_of(found, {each.folder: draw_all(each.folder) for each in found}, output, title)


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Element, Path]:
    """One page of every kind of table, beside a copy of the results."""
    root = tmp_path_factory.mktemp("page")
    found = []
    for lock in sorted(RESULTS.rglob(LOCK)):
        folder = root / "results" / lock.parent.relative_to(RESULTS)
        shutil.copytree(lock.parent, folder)
        name = folder.parent.relative_to(root / "results").as_posix()
        found.append(published(folder, name, folder.name))
    output = root / "docs" / "report.html"
    output.parent.mkdir()
    output.write_text(page(*sorted(found, key=reading_order), output=output, title=TITLE))
    return read_page(output.read_text()), output


def numbered(page: Element) -> list[Element]:
    """Claims, and cells of tables, that may hold results: names of columns and of artifacts are none."""
    claimed = [e for of in page.of_class("claims") + page.of_class("contents") for e in of.all("p")]
    claimed += [e for of in page.of_class("claims") for e in of.all("li")]
    cells = []
    for table in page.all("table"):
        classes = (table.attributes.get("class") or "").split()
        if "sort" in classes:
            cells += [e for e in table.all("td", "th") if e.attributes.get("scope") != "col"]
        elif "prints" in classes:
            cells += table.all("td")
    return cells + claimed


def without_links(element: Element) -> str:
    return "".join(
        child if isinstance(child, str) else "" if child.tag == "a" else without_links(child)
        for child in element.children
    )


def test_every_number_in_a_table_or_a_claim_is_a_link(committed: tuple[Element, Path]) -> None:
    found = numbered(committed[0])
    assert len(found) > 4000
    assert [e.text for e in found if re.search(r"\d", without_links(e))] == []


def test_every_link_leads_to_a_place_in_the_page_or_to_a_file(committed: tuple[Element, Path]) -> None:
    page, output = committed
    ids = [e.attributes["id"] for e in page.all() if "id" in e.attributes]
    assert len(set(ids)) == len(ids), "two places have one name"
    links = [e.attributes["href"] or "" for e in page.all("a")]
    assert len(links) > 4000
    inside = {link[1:] for link in links if link.startswith("#")}
    assert inside <= set(ids) and len(inside) > 50
    files = {unquote(link) for link in links if not link.startswith("#")}
    assert [file for file in files if not (output.parent / file).is_file()] == []


def test_an_arms_values_lead_to_its_own_fingerprints(committed: tuple[Element, Path]) -> None:
    page, _ = committed
    places = {e.attributes.get("id"): e for e in page.all("tbody")}
    lock = read_lock(MAIN)
    section = next(
        e for e in page.all("section") if e.attributes.get("id") == "attention-influence-main-laptop"
    )
    rows = section.all("table")[0].all("tbody")[0].all("tr")
    assert len(rows) == 7
    for row in rows:
        arm, target = row.all("th")[0].text, row.all("a")[0].attributes["href"]
        cells = {
            name: digest
            for name, digest in lock.cells.items()
            if name.startswith(arm.replace(" ", "_") + "/")
        }
        assert target is not None and len(cells) == 3
        assert all(digest in places[target[1:]].text for digest in cells.values())
        assert row.all("td")[3].all("a")[0].attributes["href"] == target


def test_a_cell_holds_what_the_estimates_say(committed: tuple[Element, Path]) -> None:
    section = next(
        e for e in committed[0].all("section") if e.attributes.get("id") == "attention-influence-main-laptop"
    )
    row = next(r for r in section.all("table")[0].all("tr") if r.all("th")[0].text == "attention influence")
    first = next(
        cell
        for cell in json.loads((MAIN / ESTIMATES).read_text())["cells"]
        if cell["variant"] == "attention_influence"
    )
    cell, difference = row.all("td")[3], first["difference"]
    assert cell.attributes["data-v"] == repr(first["value"]["value"])
    told = f"{difference['value']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]"
    assert cell.text == f"{first['value']['value']:.3f}{told}".replace("-", "−")


def drawings(html: str) -> tuple[str, list[list[str]]]:
    """A page without its drawings, and of each drawing what it says."""
    page = read_page(html)
    told = [[e.text for e in svg.all("title", "text", "tspan")] for svg in page.all("svg")]
    return re.sub(r"<svg.*?</svg>", "<svg>", html, flags=re.DOTALL), told


def test_the_page_in_docs_is_that_of_the_committed_results(committed: tuple[Element, Path]) -> None:
    # To the byte but for the drawings: their paths hang on matplotlib's version, what they say does not.
    kept = (RESULTS.parent / "docs" / "report.html").read_text()
    text, told = drawings(committed[1].read_text())
    kept_text, kept_told = drawings(kept)
    assert kept_text == text, "run `airlab report` and commit docs/report.html"
    assert kept_told == told and sum(map(len, told)) > 1000
    assert len(kept.encode()) < 5_000_000


def test_headings_descend_one_level_at_a_time(committed: tuple[Element, Path]) -> None:
    levels = [int(e.tag[1]) for e in committed[0].all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_and_figures_can_be_read_aloud(committed: tuple[Element, Path]) -> None:
    page, _ = committed
    for table in page.all("table"):
        heads = table.all("th")
        assert heads and all(head.attributes.get("scope") in ("col", "row") for head in heads)
    ids = {e.attributes.get("id") for e in page.all()}
    for element in page.all():
        assert element.attributes.get("aria-labelledby", next(iter(ids))) in ids
    figures = page.all("figure")
    assert len(figures) >= 10
    for figure in figures:
        assert figure.all("svg")[0].attributes.get("aria-label") and figure.all("figcaption")[0].text.strip()


def test_the_policy_names_the_one_script_and_nothing_comes_from_outside(
    committed: tuple[Element, Path],
) -> None:
    page, _ = committed
    policy = next(e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy")
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    content = policy.attributes["content"] or ""
    assert content.startswith("default-src 'none'; ") and f"script-src 'sha256-{digest}';" in content
    for element in page.all():
        assert not {"src", "srcset", "action", "data"} & element.attributes.keys()
        assert not [name for name in element.attributes if name.startswith("on")]
        assert ":" not in (element.attributes.get("href") or "").partition("/")[0]
        assert element.tag not in ("link", "iframe", "object", "embed", "form", "base", "img")
    styles = " ".join(
        [*(e.text for e in page.all("style")), *(e.attributes.get("style") or "" for e in page.all())]
    )
    assert "@import" not in styles and not re.search(r"url\((?!#)", styles)


def test_every_table_is_claimed_from_whatever_was_found(committed: tuple[Element, Path]) -> None:
    page, _ = committed
    sections = page.of_class("experiment")
    assert len(sections) == len(list(RESULTS.rglob(LOCK)))
    for section in sections:
        (claimed,) = section.of_class("claims")
        assert claimed.all("li")
        headings = [e.text for e in section.all("h3")]
        assert headings[0] == "What was done" and headings[1] == "What was found"
        assert headings[-1] == "Why to believe it"


def test_a_table_of_other_selectors_claims_what_became_of_those(committed: tuple[Element, Path]) -> None:
    section = next(
        e
        for e in committed[0].all("section")
        if e.attributes.get("id") == "attention-influence-improved-h100"
    )
    claimed = [li.text for li in section.of_class("claims")[0].all("li")]
    arms = ("influence excess", "influence novel", "attention influence")
    verdicts = [text for text in claimed if "random: composite" in text]
    assert all(text.startswith(arm.capitalize()) for text, arm in zip(verdicts[:3], arms, strict=True))
    for goal in ("looking up and reasoning", "plain text"):
        told = [text.removeprefix(f"On {goal}, ") for text in claimed if text.startswith(f"On {goal}, ")]
        assert all(text.startswith(f"{arm} ") for text, arm in zip(told, arms, strict=True))


def test_the_goals_that_were_fixed_before_are_claimed_for_the_method(committed: tuple[Element, Path]) -> None:
    section = next(
        e
        for e in committed[0].all("section")
        if e.attributes.get("id") == "attention-influence-continued-h100"
    )
    claimed = [li.text for li in section.of_class("claims")[0].all("li")]
    with (RESULTS / "attention_influence" / "continued" / "h100" / "goals.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["variant"] == "attention_influence"]
    assert len(rows) == 2
    for row in rows:
        (told,) = (text for text in claimed if text.startswith(f"On {row['goal']}, attention influence "))
        value = f"{float(row['value']):+.3f}".replace("-", "−")
        assert f"{row['outcome']} random: composite {value}" in told


def folder_with(path: Path, text: str) -> Path:
    """A results folder in which everything that can be a text is this one."""
    path.mkdir(parents=True)
    section = Section(text, ("name", text), ((text, "0.5 [0.1, 0.9]"), ("other", text)))
    write_page(path, Page("findings", text, (section,), (text,), ("name",), ((text,),)))
    lock = {
        "cells": {text: "a" * 64, f"{text}/seed-0": "b" * 64},
        "provenance": {"packages": {text: text}, "git": {"commit": text, "dirty": True}},
        "machines": [{"cpu": text, "cores": 2, "gpus": [text], "stages": 3, "torch": text}],
        "wall_s": {"stage": 3.0},
        "pages": ["findings"],
    }
    (path / LOCK).write_text(json.dumps(lock))  # by hand: what we write ourselves is refused for less
    return path


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_stay_texts(tmp_path: Path, text: str) -> None:
    word = "word 1" if re.search(r"\d", text) else "word"  # what has a digit is a link
    plain = page(published(folder_with(tmp_path / "a", word)), output=tmp_path / "a" / "report.html")
    found = published(folder_with(tmp_path / "b", text), text, text)
    html = page(found, output=tmp_path / "b" / "report.html")
    one, other = read_page(plain), read_page(html)
    # Slashes group cells otherwise, so rows may lie in more bodies; nothing else may come of a text.
    tags = [Counter(e.tag for e in read.all() if e.tag != "tbody") for read in (one, other)]
    assert tags[0] == tags[1]
    assert {name for e in one.all() for name in e.attributes} == {
        name for e in other.all() for name in e.attributes
    }
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)
    assert shown(" ".join(text.split())) in other.text
    for link in other.all("a"):
        target = link.attributes["href"] or ""
        assert target.startswith("#") or (tmp_path / "b" / unquote(target)).is_file()


@settings(max_examples=60)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_what_was_written_is_read_back(text: str) -> None:
    words = " ".join(text.split())
    section = Section("section", (text, "b"), ((text, "1"), ("a", text)))
    again = parse(render_page(Page("name", "title", (section,), (), (), ())), "name", "name.csv")
    (grid,) = again.grids
    assert (grid.headers, grid.rows) == ((words, "b"), ((words, "1"), ("a", words)))


@settings(max_examples=100)
@example("2026-11-23, 3-5 and -0.2")
@given(st.text())
def test_linking_numbers_changes_no_word(text: str) -> None:
    read = read_page(str(linked(text, "file.csv")).replace("\r", ""))
    assert read.text == shown(text).replace("\r", "")
    assert not re.search(r"[0-9]", without_links(read)) or not text.isascii()


def test_the_same_folders_make_the_same_bytes(tmp_path: Path) -> None:
    pages = []
    for name in ("one", "other"):
        shutil.copytree(MAIN, tmp_path / name)
        pages.append(page(published(tmp_path / name), output=tmp_path / name / "report.html"))
    assert pages[0] == pages[1]


@pytest.mark.parametrize("missing", ["figures.json", EXAMPLES, ESTIMATES])
def test_what_is_not_there_is_said(tmp_path: Path, missing: str) -> None:
    shutil.copytree(MAIN, tmp_path / "here")
    (tmp_path / "here" / missing).unlink(missing_ok=True)
    text = read_page(page(published(tmp_path / "here"), output=tmp_path / "here" / "report.html")).text
    assert f"{missing} is not in the folder" in text
    assert "Attention influence did not beat random" in text


def test_a_table_and_estimates_of_different_runs_are_refused(tmp_path: Path) -> None:
    shutil.copytree(MAIN, tmp_path / "here")
    estimates = json.loads((MAIN / ESTIMATES).read_text())
    (tmp_path / "here" / ESTIMATES).write_text(json.dumps(estimates | {"cells": estimates["cells"][1:]}))
    with pytest.raises(UserError, match=r"does not belong to table\.md"):
        page(published(tmp_path / "here"), output=tmp_path / "report.html")


@pytest.mark.parametrize("content", ["{", "[]", '{"cells": []}'])
def test_damaged_estimates_are_named(tmp_path: Path, content: str) -> None:
    shutil.copytree(MAIN, tmp_path / "here")
    (tmp_path / "here" / ESTIMATES).write_text(content)
    with pytest.raises(UserError, match="does not hold a table's estimates"):
        published(tmp_path / "here")


def test_two_results_with_one_name_have_places_of_their_own(tmp_path: Path) -> None:
    found = [published(folder_with(tmp_path / name, name), name) for name in ("a_b", "a-b")]
    ids = [
        e.attributes["id"]
        for e in read_page(page(*found, output=tmp_path / "x.html")).all()
        if "id" in e.attributes
    ]
    assert len(set(ids)) == len(ids)


def test_what_is_lost_is_claimed_like_what_is_won() -> None:
    def told(verdict: str) -> str:
        header = ("variant", "composite against random", "Holm-adjusted p", "detectable", "verdict")
        rows = (("default", "+0.1 [+0.0, +0.2]", "0.010", "0.2", verdict),)
        title = "Attention influence against random under the same setting, at equal tokens"
        text = render_page(Page("ablations", "title", (Section(title, header, rows),), (), (), ()))
        lock = read_lock(MAIN)
        read = Published(Path(), "x", "y", lock, (parse(text, "ablations", "ablations.csv"),), None, ())
        (claim,) = claims(read)
        return claim.text

    assert told("beat random").replace("beat random", "X") == told("lost to random").replace(
        "lost to random", "X"
    )


def test_a_question_is_the_first_line_and_the_rest_is_kept() -> None:
    text = "Does it?\n\nHypothesis (A): it does:\n\n- `one`: <b>\n\nPlan: [a](javascript:x) 2 & 3."
    found = question(text, ("one_arm",))
    assert found.text == "Does it?" and found.arms == ("one arm",)
    assert "<code>one</code>: &lt;b&gt;" in found.hypothesis
    assert "Plan: [a](javascript:x) 2 &amp; 3." in found.plan and "<a" not in found.plan
