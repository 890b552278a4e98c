"""Token maps in a browser: pointer, keys and finger show a token's numbers, and the text runs nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airlab.reporting.token_maps import TokenMap
from airlab.reporting.token_page import render_page
from tests.browser.chromium import Browser, Page, chromium, executable
from tests.unit.reporting.test_token_maps import STEPS, made

pytestmark = pytest.mark.skipif(executable() is None, reason="there is no Chromium here")

HOSTILE = "</div><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
LONG = "x" * 400


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def maps() -> list[TokenMap]:
    pieces = [("The", 1), (" riv\u00e9r", 1), ("\n\n", 1), ("☃", 3), (HOSTILE, 1), (" שלום", 1), (LONG, 1)]
    first = made(
        pieces, base=[1.25, 2, 1, 1, 1, 3, 1, 0.5], gain=[0.5, -0.25, 1, 1, 1, 4.5, 0, 0], name=HOSTILE
    )
    second = made([(c, 1) for c in "pqabc"], gain=[5.0, 0.5, 0.5, -0.2], steps=STEPS, first_counted=2)
    return [first, second]


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Page:
    (tmp_path / "map.html").write_text(render_page(maps(), {"model": HOSTILE}, "0" * 64))
    page = browser.page()
    page.window()
    page.open(tmp_path / "map.html")
    return page


def mark(number: int, of: int = 0) -> str:
    return f"document.querySelectorAll('.tm-t')[{of}].querySelectorAll('[data-v]')[{number}]"


def box(page: Page) -> str | None:
    """What is shown of a token, or None."""
    return page.run("(b => b.hidden ? null : b.innerText)(document.querySelector('.tm-box'))")


def lit(page: Page) -> tuple[Any, Any]:
    """Texts of the token that is shown and of those it looks at."""
    found = page.run(
        "['.tm-on', '.tm-at'].map(s => [...document.querySelectorAll('.tm-t ' + s)].map(m => m.textContent))"
    )
    return tuple(found)


def middle(page: Page, script: str) -> tuple[float, float]:
    """Where an element's first line is, after it was brought into the window."""
    x, y = page.run(
        f"(e => {{e.scrollIntoView({{block: 'center'}}); const r = e.getClientRects()[0];"
        f"return [r.x + r.width / 2, r.y + r.height / 2]}})({script})"
    )
    return x, y


def move(page: Page, script: str) -> None:
    x, y = middle(page, script)
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)


def test_the_text_runs_nothing_and_nothing_is_fetched(page: Page) -> None:
    assert page.run("document.title").startswith("Token map: ")
    assert page.run("document.querySelectorAll('img, script').length") == 1
    assert page.run("document.querySelector('.tm-t').textContent") == maps()[0].text
    asked = [event["request"]["url"] for event in page.told("Network.requestWillBeSent")]
    assert len(asked) == 1 and asked[0].startswith("file:")
    assert page.told("Log.entryAdded", "Runtime.exceptionThrown") == []


def test_a_script_that_got_in_would_not_run(page: Page) -> None:
    page.run(
        "(() => { const s = document.createElement('script'); s.textContent = 'document.title = \"run\"';"
        "document.body.append(s); document.body.insertAdjacentHTML('beforeend',"
        "'<img src=x onerror=\"document.title=1\">') })()"
    )
    assert page.run("new Promise(r => setTimeout(() => r(document.title), 200))").startswith("Token map: ")


def test_pointing_at_a_token_shows_its_numbers_and_where_the_head_looks(page: Page) -> None:
    move(page, mark(1))
    assert box(page) == (
        "token 1 ·rivér\nloss_base 1.250, loss_ref 1.750 nats\ninfluence +0.500 nats\n"
        "layer 3, head 1 attends to token 0 The"
    )
    assert lit(page) == ([" rivér"], ["The"])
    move(page, mark(0))
    assert box(page) == "token 0 The\nthe first token: nothing predicts it"
    move(page, mark(3))
    assert (box(page) or "").startswith(
        "tokens 3 to 5, 3 for one character ☃\nsums: loss_base 3.000, loss_ref 6.000 nats\n"
        "influence +3.000 nats\nlayer 3, head 1 attends to:\nfrom token 3: token 1 ·rivér\nfrom token 4: "
    )
    assert lit(page) == (["☃"], [" rivér", "\n\n", "☃"])
    move(page, "document.querySelector('h1')")
    assert box(page) is None and lit(page) == ([], [])


def test_steps_and_the_prompt_are_named(page: Page) -> None:
    move(page, mark(0, 1))
    assert "prompt: context, not counted" in (box(page) or "")
    move(page, mark(3, 1))
    assert "step 1 of 2, attention influence +0.50" in (box(page) or "")


def test_keys_move_from_token_to_token(page: Page) -> None:
    page.key("Tab", 9)
    assert page.run("document.activeElement.className") == "tm-t"
    assert (box(page) or "").startswith("token 0 ")
    for _ in range(2):
        page.key("ArrowRight", 39)
    assert (box(page) or "").startswith("token 2 ↵↵")
    page.key("ArrowLeft", 37)
    assert (box(page) or "").startswith("token 1 ")
    page.key("End", 35)
    assert lit(page)[0] == [LONG]
    page.key("Escape", 27)
    assert box(page) is None


def test_a_tap_shows_a_token_and_one_beside_it_hides_it(page: Page) -> None:
    page.window(360, 640)
    page.call("Emulation.setTouchEmulationEnabled", enabled=True)
    x, y = middle(page, mark(5))
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert (box(page) or "").startswith("token 7 ·שלום")
    page.click("document.querySelector('h1')")
    assert box(page) is None


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.window(width, 700)
    assert page.run("document.documentElement.scrollWidth") <= width
    for number in range(7):
        page.click(mark(number))
        left, top, right, bottom = page.run(
            "(r => [r.left, r.top, r.right, r.bottom])"
            "(document.querySelector('.tm-box').getBoundingClientRect())"
        )
        assert 0 <= left <= right <= width and 0 <= top <= bottom <= 700
        begins, ends = page.run(f"(r => [r.top, r.bottom])({mark(number)}.getClientRects()[0])")
        assert bottom <= begins or ends <= top, "the box hides its token"


def test_what_is_printed_is_light_and_whole(page: Page) -> None:
    page.window(dark=True, media="print")
    ink, paper = page.run(
        "(s => [s.color, s.backgroundColor])(getComputedStyle(document.querySelector('.tm-t')))"
    )
    assert (ink, paper) == ("rgb(27, 27, 27)", "rgb(255, 255, 255)")
    assert page.run("getComputedStyle(document.querySelector('.tm-u5')).printColorAdjust") == "exact"
    assert page.pdf().startswith(b"%PDF")
