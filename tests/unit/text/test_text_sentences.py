"""Sentences for probes are whole, plain and distinct."""

import re

from hypothesis import given
from hypothesis import strategies as st

from airlab.text.sentences import sentences

PROSE = (
    "Soil swells when it takes up water. The swelling, as Dr. Smith found in 1931, may lift a light house! "
    "Is it dangerous? Figures show x = 3 here. It is said that this happens in dry and in wet climates alike."
)
WORD = st.sampled_from(
    ["water", "Soil", "x_1", "==", "e.g.", "rises,", "`a`", "and", "3.5", "(here)", "A.", "walls"]
)
TEXT = st.lists(WORD | st.sampled_from([". ", ".\n\n", "\n    ", "- ", "? "]), max_size=60).map(" ".join)


def test_only_whole_plain_sentences_are_found() -> None:
    code = "def f():\n    Return the value of this very thing.\n\n- A list item that ends with a full stop."
    assert sentences([PROSE, code]) == [
        "Soil swells when it takes up water.",
        "It is said that this happens in dry and in wet climates alike.",
    ]


def test_the_same_sentence_comes_once_in_the_order_found() -> None:
    again = "SOIL swells when it takes up water. Another sentence stands here for once."
    assert sentences([PROSE, again, PROSE], limit=3)[-1] == "Another sentence stands here for once."
    assert sentences([PROSE, PROSE]) == sentences([PROSE])


@given(texts=st.lists(TEXT, max_size=5), least=st.integers(2, 6), extra=st.integers(0, 10))
def test_every_sentence_keeps_the_promise(texts: list[str], least: int, extra: int) -> None:
    found = sentences(texts, min_words=least, max_words=least + extra)
    assert len({sentence.lower() for sentence in found}) == len(found)
    for sentence in found:
        assert least <= len(sentence.split()) <= least + extra
        assert sentence[0].isupper() and sentence.endswith(".")
        assert not re.search(r"[_=`{}<>\n]|\d\.\d", sentence)
    assert found == sentences(texts, min_words=least, max_words=least + extra)
