"""Control heads are as many as the masked ones, in each layer or in all, and other ones."""

from collections import Counter

import pytest

from airlab.errors import UserError
from airlab.heads.control import other_heads, same_layer_heads

MASKED = [(1, 0), (1, 4), (3, 2), (7, 8), (7, 1), (7, 3)]


def test_as_many_heads_in_each_layer_and_none_of_the_masked() -> None:
    for draw in range(20):
        drawn = same_layer_heads(MASKED, 9, draw)
        assert Counter(layer for layer, _ in drawn) == Counter(layer for layer, _ in MASKED)
        assert len(set(drawn)) == len(MASKED) and not set(drawn) & set(MASKED)
        assert all(0 <= head < 9 for _, head in drawn)


def test_draws_repeat_and_differ() -> None:
    assert same_layer_heads(MASKED, 9, 3) == same_layer_heads(MASKED[::-1], 9, 3)
    assert len({same_layer_heads(MASKED, 9, draw) for draw in range(10)}) > 8


def test_every_other_head_is_drawn_as_often() -> None:
    count = Counter(head for draw in range(1600) for _, head in same_layer_heads([(0, 4)], 9, draw))
    assert set(count) == {0, 1, 2, 3, 5, 6, 7, 8} and min(count.values()) > 140


def test_a_layer_masked_by_more_than_half_is_filled_up() -> None:
    drawn = same_layer_heads([(0, 0), (0, 1), (0, 2)], 4, 0)
    assert len(drawn) == 3 and (0, 3) in drawn
    assert same_layer_heads([(0, 0), (0, 1)], 2, 0) == ((0, 0), (0, 1))


def test_heads_of_any_layer_are_as_many_and_none_of_the_masked() -> None:
    for draw in range(20):
        drawn = other_heads(MASKED, 8, 9, draw)
        assert list(drawn) == sorted(set(drawn)) and len(drawn) == len(MASKED)
        assert not set(drawn) & set(MASKED)
        assert all(0 <= layer < 8 and 0 <= head < 9 for layer, head in drawn)


def test_draws_of_any_layer_repeat_and_differ_from_each_other_and_from_those_of_the_same_layers() -> None:
    assert other_heads(MASKED, 8, 9, 3) == other_heads(MASKED[::-1], 8, 9, 3)
    draws = {other_heads(MASKED, 8, 9, draw) for draw in range(10)}
    assert len(draws) > 8 and same_layer_heads(MASKED, 9, 3) not in draws


def test_every_other_head_of_every_layer_is_drawn_as_often() -> None:
    count = Counter(pair for draw in range(1500) for pair in other_heads([(0, 4), (2, 1)], 3, 5, draw))
    assert set(count) == {(i, j) for i in range(3) for j in range(5)} - {(0, 4), (2, 1)}
    assert min(count.values()) > 180 and max(count.values()) < 285  # 3,000 heads over 13 places: 231 expected


def test_too_many_masked_heads_leave_nothing_to_draw() -> None:
    assert set(other_heads([(0, 0), (0, 1)], 2, 2, 0)) == {(1, 0), (1, 1)}
    with pytest.raises(UserError, match="one half or less"):
        other_heads([(0, 0), (0, 1), (1, 0)], 2, 2, 0)
