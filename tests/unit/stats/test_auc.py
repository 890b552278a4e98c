"""Areas under ROC curves are what counting pairs says, and their errors what resampling groups says."""

import numpy as np
import pytest

from airlab.stats.auc import auc, auc_pooled, auc_within
from airlab.stats.grid import cluster_values
from airlab.stats.intervals import compare


def pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    """The slow way: every pair."""
    won = [(p > n) + 0.5 * (p == n) for p in scores[positive] for n in scores[~positive]]
    return float(np.mean(won))


def made(seed: int, groups: int = 40, effect: float = 0.7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with ties, in groups of uneven sizes that have a level of their own."""
    rng = np.random.default_rng(seed)
    group = np.repeat([f"g{n:02d}" for n in range(groups)], rng.integers(1, 9, groups))
    positive = rng.random(len(group)) < 0.4
    own = rng.normal(0, 1, groups)[[int(name[1:]) for name in group]]
    return np.round(own + effect * positive + rng.normal(0, 1, len(group)), 1), positive, group


@pytest.mark.parametrize("seed", range(5))
def test_areas_are_those_of_counting_all_pairs(seed: int) -> None:
    scores, positive, group = made(seed)
    expected = pairs(scores, positive)
    assert auc(scores, positive) == pytest.approx(expected, abs=1e-12)
    pooled = auc_pooled(scores, positive, group)
    assert pooled is not None and pooled.values.mean() == pytest.approx(expected, abs=1e-12)
    within = auc_within(scores, positive, group)
    assert within is not None
    by_group = {
        name: pairs(scores[group == name], positive[group == name])
        for name in np.unique(group)
        if len(set(positive[group == name])) == 2
    }
    assert dict(zip(within.items, within.values[0], strict=True)) == pytest.approx(by_group)
    assert 0 < len(by_group) < len(np.unique(group)), "the groups do not test what they should"


@pytest.mark.parametrize(("sign", "area"), [(1.0, 1.0), (0.0, 0.5), (-1.0, 0.0)])
def test_a_perfect_a_useless_and_a_reversed_score(sign: float, area: float) -> None:
    positive = np.array([True, False, True, False, False])
    group = np.array(["a", "a", "b", "b", "b"])
    scores = sign * positive
    assert auc(scores, positive) == area
    for found in (auc_within(scores, positive, group), auc_pooled(scores, positive, group)):
        assert found is not None and found.values.tolist() == [[area, area]]


def test_without_one_of_the_kinds_there_is_no_area() -> None:
    scores, group = np.arange(4.0), np.array(["a", "a", "b", "b"])
    for positive in (np.ones(4, bool), np.zeros(4, bool)):
        assert auc(scores, positive) is None
        assert auc_within(scores, positive, group) is None and auc_pooled(scores, positive, group) is None
    apart = group == "a"
    assert auc_within(scores, apart, group) is None, "no group has both kinds"
    assert auc_pooled(scores, apart, group) is not None
    assert auc(np.zeros(0), np.zeros(0, bool)) is None


def test_scores_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        auc(np.array([np.nan, 1.0]), np.array([True, False]))


def test_what_groups_differ_in_does_not_enter_within_them() -> None:
    scores, positive, group = made(7)
    moved = scores + 10.0 * np.array([int(name[1:]) for name in group])
    before, after = (auc_within(some, positive, group) for some in (scores, moved))
    assert before is not None and after is not None
    np.testing.assert_array_equal(before.values, after.values)
    assert auc(scores, positive) != auc(moved, positive)


def test_the_linearised_error_is_that_of_drawing_whole_groups() -> None:
    """Two hundred groups, so that the first order is nearly everything."""
    scores, positive, group = made(11, groups=200)
    members = [np.flatnonzero(group == name) for name in np.unique(group)]
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        at = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        drawn.append(auc(scores[at], positive[at]))
    grid = auc_pooled(scores, positive, group)
    assert grid is not None
    values = cluster_values(grid)[0]
    assert values.std(ddof=1) / np.sqrt(len(values)) == pytest.approx(np.std(drawn), rel=0.12)


def test_clusters_of_groups_count_once() -> None:
    """Every group four times over, in one cluster with its copies: no more is known than before."""
    scores, positive, group = made(3)
    copies = 4
    name = np.concatenate([[f"{g}-{copy}" for g in group] for copy in range(copies)])
    for area in (auc_within, auc_pooled):
        once = area(scores, positive, group)
        many = area(np.tile(scores, copies), np.tile(positive, copies), name, np.tile(group, copies))
        alone = area(np.tile(scores, copies), np.tile(positive, copies), name)
        assert once is not None and many is not None and alone is not None
        errors = []
        for grid in (once, many, alone):
            found = compare([grid], rng=np.random.default_rng(0)).error
            assert found is not None
            errors.append(found.items**0.5)
        assert errors[1] == pytest.approx(errors[0], rel=1e-9)
        assert errors[2] == pytest.approx(errors[0] / 2, rel=0.05)
