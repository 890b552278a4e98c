"""Control heads are as many in each layer as the masked ones, and other ones."""

from collections import Counter

from airlab.heads.control import same_layer_heads

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
