"""Documents are cut where words end, near the middle, and nothing of them is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airlab.text.halves import cut_in_half


@given(st.text(alphabet="ab \n\t", max_size=60))
def test_halves_are_the_text_cut_between_words(text: str) -> None:
    halves = cut_in_half(text)
    if halves is None:
        assert len(text.split()) <= 1
        return
    first, second = halves
    assert first + second == text
    assert not first[-1].isspace() and second[0].isspace()
    assert first.split() + second.split() == text.split() and first.split() and second.split()


@pytest.mark.parametrize(
    ("text", "halves"),
    [
        ("one two three four", ("one two", " three four")),
        ("aaaa bbb\nccccc", ("aaaa", " bbb\nccccc")),
        ("a bbbbbbbbbb\n\ncccccccccc", ("a bbbbbbbbbb", "\n\ncccccccccc")),
        ("word\nword", ("word", "\nword")),
        ("a  b", ("a", "  b")),
        ("word", None),
        ("  word\n", None),
        (" \n ", None),
        ("", None),
    ],
    ids=[
        "nearest to the middle",
        "a space before a nearer newline",
        "no space far from the middle",
        "newlines where there is no space",
        "runs stay whole",
        "one word",
        "one word with space around it",
        "blank",
        "empty",
    ],
)
def test_where_texts_are_cut(text: str, halves: tuple[str, str] | None) -> None:
    assert cut_in_half(text) == halves
