"""The committed page in a real browser: nothing fails or is fetched, tables sort, nothing is cut off."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Page, chromium, executable

pytestmark = pytest.mark.skipif(executable() is None, reason="there is no Chromium here")

PAGE = Path(__file__).parents[2] / "docs" / "report.html"
TABLE = "document.querySelector('#attention-influence-main-laptop table.sort')"


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page, loaded once; tests leave it sorted and unfolded as they like."""
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        page = browser.page()
        page.window()
        page.open(PAGE)
        yield page


@pytest.fixture
def shown(tab: Page) -> Page:
    """In a window of the usual size."""
    tab.window()
    return tab


def column(page: Page, number: int) -> list[str]:
    found: list[str] = page.run(
        f"[...{TABLE}.tBodies[0].rows].map(r => r.cells[{number}].innerText.split('\\n')[0])"
    )
    return found


def sorting(page: Page) -> list[str]:
    found: list[str] = page.run(f"[...{TABLE}.tHead.rows[0].cells].map(c => c.getAttribute('aria-sort'))")
    return found


def button(number: int) -> str:
    return f"{TABLE}.tHead.rows[0].cells[{number}].querySelector('button')"


def as_number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_it_loads_without_errors_and_asks_for_nothing(shown: Page) -> None:
    shown.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    asked = [event["request"]["url"] for event in shown.told("Network.requestWillBeSent")]
    assert asked == [PAGE.as_uri()]
    assert shown.told("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled") == []


def test_injected_script_does_not_run(shown: Page) -> None:
    shown.run(
        "(() => {const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
        "document.body.append(s);"
        "const d = document.createElement('div'); d.innerHTML = '<p onclick=\"window.ran = 1\">x</p>';"
        "document.body.append(d); d.firstChild.click()})()"
    )
    assert shown.run("window.ran ?? null") is None


def test_a_click_sorts_by_number_and_a_second_one_turns_around(shown: Page) -> None:
    before = column(shown, 4)
    shown.click(button(4))
    assert sorting(shown)[4] == "ascending" and sorting(shown).count("none") == len(sorting(shown)) - 1
    rising = [as_number(text) for text in column(shown, 4)]
    assert rising == sorted(rising) and sorted(column(shown, 4)) == sorted(before) and len(set(before)) > 3
    shown.click(button(4))
    assert sorting(shown)[4] == "descending"
    assert [as_number(text) for text in column(shown, 4)] == sorted(rising, reverse=True)


def test_the_sign_of_a_number_counts_and_what_has_none_comes_last(shown: Page) -> None:
    for direction in ("ascending", "descending"):
        shown.click(button(1))
        assert sorting(shown)[1] == direction
        *numbers, reference = column(shown, 1)
        assert reference == "the reference"
        values = [as_number(text) for text in numbers]
        assert values == sorted(values, reverse=direction == "descending") and min(values) < 0 < max(values)


def test_names_sort_as_words_by_the_keyboard(shown: Page) -> None:
    shown.run(f"{button(0)}.focus()")
    shown.key("Enter", 13)
    assert sorting(shown)[0] == "ascending"
    assert column(shown, 0) == sorted(column(shown, 0))
    shown.key(" ", 32)
    assert column(shown, 0) == sorted(column(shown, 0), reverse=True)


def test_every_table_sorts_by_every_column_without_losing_a_row(shown: Page) -> None:
    changed = shown.run(
        "(() => {const bad = []; for (const t of document.querySelectorAll('table.sort')) {"
        "const rows = () => [...t.tBodies[0].rows].map(r => r.textContent).sort().join();"
        "const before = rows();"
        "for (const b of t.querySelectorAll('button')) {b.click();"
        "if (rows() !== before) bad.push(b.innerText)}}"
        "return bad})()"
    )
    assert changed == []


def test_a_link_into_folded_provenance_opens_it(shown: Page) -> None:
    shown.click(f"{TABLE}.tBodies[0].rows[2].cells[0].querySelector('a')")
    shown.run("new Promise(done => setTimeout(done, 50))")
    target = "document.querySelector(location.hash)"
    assert shown.run(f"{target}.closest('details').open") is True
    box = shown.run(f"(() => {{const r = {target}.getBoundingClientRect(); return [r.top, r.height]}})()")
    assert -1 < box[0] < 900 and box[1] > 0


def test_marks_and_cells_say_more_under_the_pointer(shown: Page) -> None:
    assert shown.run("document.querySelectorAll('figure svg title').length") > 200
    assert shown.run(f"{TABLE}.tBodies[0].rows[0].cells[4].title").count("items") == 1


def test_pointing_at_a_token_shows_its_losses(shown: Page) -> None:
    shown.run(
        "(() => {const t = document.querySelector('.tm-t [data-v]:nth-of-type(5)');"
        "t.closest('details').open = true; t.scrollIntoView({block: 'center'})})()"
    )
    x, y = shown.run(
        "(() => {const r = document.querySelector('.tm-t [data-v]:nth-of-type(5)').getBoundingClientRect();"
        "return [r.x + 1, r.y + r.height / 2]})()"
    )
    shown.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    box = shown.run("document.querySelector('.tm-box:not([hidden])')?.innerText ?? ''")
    assert "loss_base" in box and "loss_ref" in box and "attends to token" in box


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("unfolded", [False, True])
def test_a_phone_never_scrolls_the_page_sideways(tab: Page, dark: bool, unfolded: bool) -> None:
    tab.window(360, 800, dark=dark)
    tab.run(f"for (const d of document.querySelectorAll('details')) d.open = {str(unfolded).lower()}")
    wide = tab.run(
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 361 &&"
        "!e.closest('.scroll, svg, .tm-steps, .tm-t, pre')).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert tab.run("document.documentElement.scrollWidth") == 360


def test_the_first_column_stays_while_the_others_scroll(tab: Page) -> None:
    tab.window(360, 800)
    place = f"{TABLE}.tBodies[0].rows[0].cells[0].getBoundingClientRect().left"
    before = tab.run(place)
    box = f"{TABLE}.closest('.scroll')"
    assert tab.run(f"(() => {{const s = {box}; s.scrollLeft = 400; return s.scrollLeft}})()") == 400
    assert tab.run(place) == before


def test_dark_and_light_differ_and_both_can_be_read(tab: Page) -> None:
    grounds = []
    for dark in (False, True):
        tab.window(dark=dark)
        ground, ink, quiet = (
            [int(n) for n in re.findall(r"\d+", colour)[:3]]
            for colour in tab.run(
                "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
                "getComputedStyle(document.querySelector('.where')).color]"
            )
        )
        grounds.append(ground)
        assert contrast(ground, ink) > 7 and contrast(ground, quiet) > 4.5
    assert grounds[0] != grounds[1]


def contrast(one: list[int], other: list[int]) -> float:
    """WCAG's ratio of two colours."""

    def luminance(colour: list[int]) -> float:
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_it_prints_with_results_unfolded_and_nothing_cut(shown: Page) -> None:
    shown.run("for (const d of document.querySelectorAll('details')) d.open = false")
    pdf = shown.pdf()
    assert pdf.startswith(b"%PDF-") and len(pdf) > 100_000
    shown.window(688, 1000, media="print")  # the width of A4 within its margins
    shown.run("dispatchEvent(new Event('beforeprint'))")
    assert shown.run("document.querySelectorAll('details.result:not([open])').length") == 0
    cut = shown.run(
        "[...document.querySelectorAll('td, figure svg')].filter(e => e.getClientRects().length &&"
        "e.getBoundingClientRect().right > 689).map(e => e.outerHTML.slice(0, 150))"
    )
    shown.run("dispatchEvent(new Event('afterprint'))")
    assert shown.run("document.querySelectorAll('details.result[open]').length") == 0
    assert cut == []
