"""Agreement of rankings and of subsets of probes, against slow references."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from airlab.heads.stability import (
    agreement,
    disjoint_draws,
    drawn_agreement,
    means,
    rank_correlations,
    shared_share,
    tops,
)

PROBES, HEADS, COUNT = 12, 30, 5


def recalls(seed: int = 0) -> np.ndarray:
    """Shares of a few tokens, so that ties are common."""
    draw = np.random.default_rng(seed)
    likely = draw.beta(0.3, 1.0, HEADS)
    return draw.binomial(6, likely, (PROBES, HEADS)) / 6


def slow_top(scores: list[float], count: int) -> list[int]:
    return sorted(range(len(scores)), key=lambda head: (-round(scores[head], 9), head))[:count]


def slow_share(recall: np.ndarray, one: list[int], other: list[int]) -> float:
    found = []
    for chosen in (one, other):
        scores = [sum(recall[p][h] for p in chosen) / len(chosen) for h in range(HEADS)]
        found.append(set(slow_top(scores, COUNT)))
    return len(found[0] & found[1]) / COUNT


def test_shares_and_correlations_are_those_of_a_slow_reference() -> None:
    recall = recalls()
    one, other = disjoint_draws(PROBES, 3, 9, 50, np.random.default_rng(1))
    shares = shared_share(means(recall, one), means(recall, other), COUNT)
    correlations = rank_correlations(means(recall, one), means(recall, other))
    for row in range(50):
        a, b = (np.flatnonzero(chosen[row]).tolist() for chosen in (one, other))
        assert shares[row] == pytest.approx(slow_share(recall, a, b))
        rounded = [np.round(recall[chosen].mean(axis=0), 9) for chosen in (a, b)]
        assert correlations[row] == pytest.approx(spearmanr(*rounded).statistic)
    assert len(set(shares.tolist())) > 1, "nothing was compared"


def test_ties_at_the_cut_go_to_the_earlier_head_even_after_rounding() -> None:
    scores = np.array([[0.2, 0.5, 0.5 - 1e-16, 0.5 + 1e-16, 0.9]])
    assert tops(scores, 3).tolist() == [[4, 1, 2]]


def test_no_probe_is_compared_with_itself_and_every_one_is_drawn() -> None:
    one, other = disjoint_draws(PROBES, 4, PROBES - 4, 200, np.random.default_rng(0))
    assert not (one & other).any()
    assert (one.sum(axis=1) == 4).all() and (other.sum(axis=1) == PROBES - 4).all()
    assert np.abs(one.mean(axis=0) - 4 / PROBES).max() < 0.15
    small, _ = disjoint_draws(PROBES, 4, 4, 1, np.random.default_rng(0))
    assert small.sum() == 4


@pytest.mark.parametrize(("first", "second"), [(0, 3), (3, 0), (7, 6)])
def test_sets_that_are_empty_or_must_overlap_are_refused(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="do not give"):
        disjoint_draws(PROBES, first, second, 5, np.random.default_rng(0))


def test_the_order_of_probes_means_nothing() -> None:
    recall = recalls(3)
    one, other = disjoint_draws(PROBES, 5, 7, 300, np.random.default_rng(0))
    order = np.random.default_rng(9).permutation(PROBES)
    for measure in (lambda a, b: shared_share(a, b, COUNT), rank_correlations):
        before = measure(means(recall, one), means(recall, other))
        after = measure(means(recall[order], one[:, order]), means(recall[order], other[:, order]))
        np.testing.assert_allclose(after, before, atol=1e-12)


def test_two_rankings_agree_as_counted_by_hand() -> None:
    first = np.array([0.9, 0.8, 0.7, 0.1, 0.0])
    found = agreement(first, np.array([0.9, 0.1, 0.7, 0.8, 0.0]), 3)
    assert (found.shared, found.count, found.share) == (2, 3, pytest.approx(2 / 3))
    assert found.spearman == pytest.approx(1 - 6 * (2**2 + 2**2) / (5 * 24))
    assert agreement(first, first, 3).spearman == pytest.approx(1)
    assert agreement(first, -first, 2).shared == 0


def test_a_ranking_that_says_nothing_has_no_correlation() -> None:
    assert agreement(np.zeros(4), np.arange(4.0), 2).spearman is None
    found = drawn_agreement(np.zeros((6, 4)), 2, 4, 2, 10, np.random.default_rng(0))
    assert (found.spearman, found.spearman_low, found.spearman_high) == (None, None, None)


def test_more_probes_agree_better_and_identical_ones_perfectly() -> None:
    draw = np.random.default_rng(5)
    noisy = np.linspace(0, 1, HEADS) + draw.normal(0, 0.4, (80, HEADS))
    few, many = (drawn_agreement(noisy, size, 40, COUNT, 300, np.random.default_rng(0)) for size in (2, 40))
    assert few.share + 0.1 < many.share <= 1
    assert few.share_low < few.share < few.share_high
    assert few.spearman is not None and many.spearman is not None and few.spearman < many.spearman
    same = np.tile(np.linspace(0, 1, HEADS), (10, 1))
    perfect = drawn_agreement(same, 3, 7, COUNT, 20, np.random.default_rng(0))
    assert (perfect.share_low, perfect.share, perfect.spearman) == (1, 1, pytest.approx(1))
