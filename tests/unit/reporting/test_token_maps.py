"""Token maps hold the text to the letter, shade by influence alone, and can be read."""

import html.parser
import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airlab.reporting import token_maps
from airlab.reporting.token_maps import EDGES, LEGEND, STYLE, StepScore, TokenMap, render_map, signed
from airlab.reporting.token_page import identity_in, render_page


def made(
    pieces: list[tuple[str, int]],
    base: list[float] | None = None,
    gain: list[float] | None = None,
    **more: object,
) -> TokenMap:
    """A map of marks, each with its number of tokens; every token is predicted by a look two tokens back."""
    tokens = sum(count for _, count in pieces)
    bases = base or [1.0] * (tokens - 1)
    references = [b + g for b, g in zip(bases, gain or [0.0] * (tokens - 1), strict=True)]
    values: dict[str, object] = {
        "name": "doc",
        "text": "".join(text for text, _ in pieces),
        "ends": tuple(np.cumsum([len(text) for text, _ in pieces]).tolist()),
        "tokens": tuple(count for _, count in pieces),
        "base": tuple(bases),
        "reference": tuple(references),
        "attended": tuple(max(0, t - 2) for t in range(1, tokens)),
        "head": (3, 1),
        "windows": (),
        "all_tokens": tokens,
        "first_counted": 1,
        "n_tokens": tokens - 1,
        "loss_sum_base": sum(bases),
        "loss_sum_ref": sum(references),
        "score": (sum(references) - sum(bases)) / sum(bases),
    }
    return TokenMap(**{**values, **more})  # type: ignore[arg-type]


class Read(html.parser.HTMLParser):
    """What a fragment shows: text inside of the map, and the marks with what they say."""

    def __init__(self, fragment: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text, self.tags = "", []
        self.marks: list[dict[str, str]] = []
        self.inside = 0
        self.feed(fragment)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given_ = {name: value or "" for name, value in attributes}
        self.tags.append(tag)
        if given_.get("class") == "tm-t":
            self.inside = 1
        elif self.inside:
            self.inside += 1
            if "data-v" in given_:
                self.marks.append({**given_, "text": ""})

    def handle_endtag(self, tag: str) -> None:
        self.inside = max(0, self.inside - 1)

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.text += data
            self.marks[-1]["text"] += data


ANY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(st.lists(ANY, min_size=2, max_size=8), st.text(max_size=10))
@example(["<b>", "</div>", '"', "&amp;", "\n", " \t ", "<!--", "]]>"], "<script>")
@example(["שלום", " \u202e", "ة", "👨\u200d👩"], "'\"><img src=x onerror=alert(1)>")
def test_any_text_and_any_name_are_shown_as_they_are(texts: list[str], name: str) -> None:
    shown = made([(text, 1) for text in texts], name=name)
    read = Read(render_map(shown))
    assert read.text == shown.text
    assert [mark["text"] for mark in read.marks] == texts
    assert set(read.tags) <= {"section", "p", "b", "bdi", "div", "span"}


def test_control_characters_are_shown_as_signs() -> None:
    assert Read(render_map(made([("a\r\nb", 1), ("\0\x1b\x85", 1)]))).text == "a␍\nb␀␛\ufffd"


def test_every_number_of_every_token_is_there() -> None:
    shown = made([("a", 1), ("☃", 3), ("b", 1)], base=[1, 2, 3, 0.5], gain=[1, -2, 4, 0.1234])
    marks = Read(render_map(shown)).marks
    assert [mark["data-v"] for mark in marks] == ["0 0 -", "6 9 0,0,1", "0.5 0.623 2"]
    assert [mark.get("class", "") for mark in marks] == ["", "tm-u4", "tm-u1"]


def test_a_character_whose_first_token_nothing_predicts_says_so() -> None:
    shown = made([("☃", 3), ("b", 1)], base=[1, 2, 3])
    assert Read(render_map(shown)).marks[0]["data-v"] == "3 3 -,0,0"


def test_shades_follow_influence_in_both_directions_and_by_the_legends_edges() -> None:
    gains = [0.0, *(sign * edge * near for edge in EDGES for near in (0.99, 1.01) for sign in (1, -1))]
    shown = made([("x", 1)] * (len(gains) + 1), gain=gains)
    for mark, gain in zip(Read(render_map(shown)).marks[1:], gains, strict=True):
        level = sum(abs(gain) >= edge for edge in EDGES)
        assert mark.get("class", "") == (f"tm-{'u' if gain > 0 else 'd'}{level}" if level else "")
    for level, edge in enumerate(EDGES, 1):
        assert f'<span class="tm-u{level}">above +{edge:g}</span>' in LEGEND
        assert f'<span class="tm-d{level}">below −{edge:g}</span>' in LEGEND


STEPS = (StepScore(2, 2, 2.0, 3.0, 0.5), StepScore(4, 1, 1.0, 0.9, -0.1))


def test_steps_begin_where_their_first_token_does_and_the_prompt_is_not_shaded() -> None:
    pieces = [(c, 1) for c in "pqabc"]
    gain = [5.0, 0.5, 0.5, -0.2]
    shown = made(pieces, gain=gain, steps=STEPS, first_counted=2, n_tokens=3)
    page = render_map(shown)
    parts = re.findall(
        r'<span class="(tm-[ps])"(?: data-s="([^"]*)")? data-part="([^"]*)">(.*?)</span></span>', page
    )
    assert [(kind, label, re.sub(r"<[^>]*>", "", text)) for kind, label, _, text in parts] == [
        ("tm-p", "", "pq"), ("tm-s", "1: +0.50", "ab"), ("tm-s", "2: −0.10", "c"),
    ]  # fmt: skip
    assert [part for _, _, part, _ in parts][1:] == [
        "step 1 of 2, attention influence +0.50",
        "step 2 of 2, attention influence −0.10",
    ]
    assert [mark.get("class", "") for mark in Read(page).marks] == ["", "", "tm-u2", "tm-u2", "tm-d1"]
    assert "<td>2</td><td>1</td><td>1.000</td><td>0.900</td><td>−0.100</td>" in page


def test_a_window_is_marked_and_explained() -> None:
    page = render_map(made([("x", 1)] * 4, windows=(2,)))
    assert [("tm-w" in mark.get("class", "")) for mark in Read(page).marks] == [False, False, True, False]
    assert "A double line begins a new window" in page
    assert "double line" not in render_map(made([("x", 1)] * 4))


def test_a_beginning_keeps_whole_marks_and_the_numbers_of_the_whole() -> None:
    whole = made([("a", 1), ("☃", 3), ("b", 1), ("c", 1)], windows=(5,))
    for tokens, text, count in (
        (1, "a", 1),
        (3, "a", 1),
        (4, "a☃", 4),
        (5, "a☃b", 5),
        (6, "a☃bc", 6),
        (99, "a☃bc", 6),
    ):
        part = whole.beginning(tokens)
        assert (part.text, sum(part.tokens)) == (text, count)
        assert len(part.base) == len(part.reference) == len(part.attended) == count - 1
        assert (part.n_tokens, part.loss_sum_ref, part.all_tokens) == (5, whole.loss_sum_ref, 6)
        assert part.windows == ((5,) if count > 5 else ())
    assert "Shown: the first 4 of 6 tokens." in render_map(whole.beginning(4))
    assert "Shown:" not in render_map(whole)


def test_a_map_comes_back_from_json() -> None:
    shown = made([("a", 1), ("b", 2)], steps=STEPS, windows=(1,))
    assert TokenMap.of_json(json.loads(json.dumps(shown.to_json()))) == shown


def test_signs_are_minus_signs_and_nothing_is_minus_zero() -> None:
    assert [signed(v) for v in (1.5, -1.5, 0.0, -0.0001)] == ["+1.500", "−1.500", "+0.000", "+0.000"]


def test_a_thousand_tokens_take_less_than_150_kilobytes() -> None:
    draw = np.random.default_rng(0)
    shown = made(
        [(" word", 1)] * 1000, base=draw.exponential(2, 999).tolist(), gain=draw.normal(0, 2, 999).tolist()
    )
    assert len(render_map(shown).encode()) < 100_000
    assert len(render_page([shown], {}, "0" * 64).encode()) < 150_000


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_is_readable_on_every_shade_and_shades_tell_more_from_less(scheme: int) -> None:
    colours = [
        dict(re.findall(r"--tm-(\w+): (#[0-9a-f]{6});", part)) for part in STYLE.split("@media screen")[:2]
    ][scheme]
    for side in "ud":
        shades = [colours["paper"], *(colours[f"{side}{level}"] for level in range(1, 6))]
        assert all(contrast(colours["ink"], shade) >= 4.5 for shade in shades)
        away = [contrast(colours["paper"], shade) for shade in shades]
        assert all(b > 1.08 * a for a, b in pairwise(away))
    assert contrast(colours["quiet"], colours["paper"]) >= 4.5


def test_the_sign_is_told_without_colour() -> None:
    assert re.search(r"\.tm-d1,[^{]*\.tm-d5 \{ text-decoration: underline dotted", STYLE)


def test_a_page_says_what_it_was_made_from_and_nothing_in_it_is_taken_for_that() -> None:
    spoof = f'<meta name="airlab_identity" content="{"a" * 64}">'
    page = render_page([made([(spoof, 1), ("b", 1)], name=spoof)], {"model": spoof}, "b" * 64)
    assert identity_in(page) == "b" * 64
    assert identity_in("<p>somebody else's</p>") is None


def test_nothing_is_fetched() -> None:
    everything = STYLE + token_maps.SCRIPT + render_page([made([("a", 1), ("b", 1)])], {}, "0" * 64)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", everything.replace("// ", ""))
