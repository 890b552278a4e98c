"""Patterns over text of other people: time grows with the text's length, and a user's own pattern ends."""

import itertools
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from zipfile import ZipFile

import pytest

from airlab.errors import UserError
from airlab.schema.text import PoolSpec, WheelPin, WheelSource
from airlab.schema.traces import Segmentation
from airlab.text import pool
from airlab.text.sentences import sentences
from airlab.text.steps import cut
from airlab.text.worked.answers import is_right
from tests.faults.ledger import FULL, count

OPENERS = ["$", "$$", r"\[", r"\(", r"\begin{a}", r"\end{a}", "\\", "`", "```\n", "~~~ ", "(", "{", "[", "-"]
SPACES = [" ", "\n", "\n ", "\r\n", "\t\n", "\u2028", "\u200d", "\u0301"]
SIGNS = [".", ". ", ".*", "!", "。", "」", "> ", "#", "*", "A. ", "Mr. ", "A a ", "So ", "Step ", "e", "^"]
NUMBERS = ["1", "1.", "1/", "1,", "1 ", "a1", "1e1", r"\frac{", r"\boxed{", r"\times", "Answer: "]
REPEATED = [*OPENERS, *SPACES, *SIGNS, *NUMBERS]
if FULL:
    REPEATED += map("".join, itertools.permutations([*OPENERS[:9], *SPACES[:3], *SIGNS[:3], "1", "a"], 2))

READERS: dict[str, Callable[[str], object]] = {
    **{
        rule: partial(cut, segmentation=Segmentation.model_validate({"rule": rule}))
        for rule in ("blank_line", "newline", "sentence", "cue")
    },
    "answer": partial(is_right, answer="Answer: 4"),
    "sentences": lambda text: sentences([text]),
}


def takes(read: Callable[[str], object], text: str) -> float:
    before = time.process_time()
    read(text)
    return time.process_time() - before


def explodes(read: Callable[[str], object], part: str, first: str = "", last: str = "") -> bool:
    """Whether four times the text takes more than eight times as long, three times in a row.

    Nothing under a twentieth of a second can be anything but linear for 40,000 characters.
    """

    def text(characters: int) -> str:
        return first + part * (characters // len(part)) + last

    long = takes(read, text(40_000))
    return long > 0.05 and all(takes(read, text(40_000)) > 8 * takes(read, text(10_000)) for _ in range(3))


@pytest.mark.parametrize("name", READERS)
def test_time_grows_with_the_length_of_a_text_alone(name: str) -> None:
    found = [
        (part, first)
        for part in REPEATED
        for first, last in (("", ""), ("\nStep", "x"))
        if explodes(READERS[name], part, first, last)
    ]
    assert found == []
    count("hostile", "texts made to be costly for patterns: read in linear time", inputs=2 * len(REPEATED))


def test_a_pattern_of_quadratic_cost_would_be_seen() -> None:
    ambiguous = re.compile(r"\s*=")
    assert explodes(lambda text: ambiguous.search(text[::4]), " ")


COSTLY = ["(a|a)+$", "(a+)+$", "(.*a){25}$"]


@pytest.mark.parametrize("pattern", COSTLY)
def test_a_pattern_of_a_corpus_is_given_up(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_LONGEST_SEARCH_S", 0.2)
    with ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("a" * 5000 + "/x.py", "")
    with pytest.raises(UserError, match=r"takes more than 0\.2 s to be found in a name of w \(aaa"):
        pool.build_pool(spec(pattern), lambda name: tmp_path / f"{name}.whl")
    count("hostile", "patterns of exponential cost: given up", inputs=1)


def spec(pattern: str) -> PoolSpec:
    pin = WheelPin(name="w", version="1", file="w.whl", sha256="0" * 64)
    source = WheelSource(wheel="w", reader="code", members=pattern, domain="code", licence="MIT")
    return PoolSpec(
        wheels=(pin,), sources=(source,), bytes_per_domain={"code": 9999}, heldout_bytes_per_domain={}
    )


def test_cues_are_words_and_no_patterns() -> None:
    hostile = Segmentation(rule="cue", cues=("(a+)+$", "."))
    assert cut("Say.\n" + "a" * 60 + "!\nb\n. c", hostile) == ((0, 69), (69, 72))
    assert not explodes(partial(cut, segmentation=hostile), "\naaaaaaaaa")
    count("hostile", "texts made to be costly for patterns: read in linear time", inputs=2)
