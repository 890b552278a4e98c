"""The share of held-out n-grams in a stream, against sets of tuples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airlab.selection.covered import shares_covered

ids = st.lists(st.integers(0, 4), max_size=30)


def by_sets(stream: list[int], texts: list[list[int]], n: int) -> float | None:
    def said(some: list[int]) -> list[tuple[int, ...]]:
        return [tuple(some[i : i + n]) for i in range(len(some) - n + 1)]

    held, asked = set(said(stream)), [ngram for text in texts for ngram in said(text)]
    return sum(ngram in held for ngram in asked) / len(asked) if asked else None


@given(ids, st.lists(ids, max_size=4), st.integers(1, 5))
def test_it_is_the_share_of_what_is_asked_that_the_stream_holds(
    stream: list[int], texts: list[list[int]], n: int
) -> None:
    as_arrays = [np.array(text, dtype=np.uint16) for text in texts]
    found = shares_covered(np.array(stream, dtype=np.uint16), {"prose": as_arrays}, n)
    assert found.get("prose") == pytest.approx(by_sets(stream, texts, n))


def test_groups_have_shares_of_their_own_and_texts_no_border_in_common() -> None:
    stream = np.arange(10)
    found = shares_covered(
        stream,
        {"in": [stream[:5], stream[5:]], "half": [stream[:3], stream[::-1][:3]], "out": [stream + 50]},
        2,
    )
    assert found == {"in": 1.0, "half": 0.5, "out": 0.0}
    assert shares_covered(stream, {"over": [stream[:1], stream[1:2]]}, 2) == {}
