"""What fits into so many hours: every rule keeps what it promises, and none takes more than is given."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airlab.errors import UserError
from airlab.planning.costs import Cost, grouped, total
from airlab.planning.rates import Rate
from airlab.planning.scaling import Recipe, fits

RECIPE = Recipe(
    fixed=1.0, scoring=100.0, training=1000.0, evaluation=2.0, targets=14, seeds=2,
    scored_tokens=200e9, target_tokens=1e12, parameters=7e9,
)  # fmt: skip


def recomputed(recipe: Recipe, targets: int, scored: float, parameters: float, tokens: float) -> float:
    """What a smaller recipe takes: scoring in its tokens, training in parameters times tokens."""
    size = parameters / recipe.parameters
    training = recipe.training * size * tokens / recipe.target_tokens
    scoring = recipe.scoring * scored / recipe.scored_tokens
    return recipe.fixed + scoring + targets * (training + size * recipe.evaluation)


@given(st.floats(min_value=40.0, max_value=1e6))
def test_no_rule_takes_more_than_is_given_or_grows(hours: float) -> None:
    for fit in fits(RECIPE, hours):
        assert fit.hours <= hours * (1 + 1e-9)
        assert fit.hours == pytest.approx(
            recomputed(RECIPE, fit.targets, fit.scored_tokens, fit.parameters, fit.target_tokens)
        )
        assert 0 < fit.targets <= RECIPE.targets
        assert 0 < fit.scored_tokens <= RECIPE.scored_tokens
        assert 0 < fit.target_tokens <= RECIPE.target_tokens
        assert 0 < fit.parameters <= RECIPE.parameters


def test_all_hours_are_used_where_sizes_are_free() -> None:
    fewer_targets, *others = fits(RECIPE, 5000.0)
    assert fewer_targets.targets == 4 and fewer_targets.target_tokens == RECIPE.target_tokens
    assert [fit.targets for fit in others] == [14, 3, 14]
    all_tokens, three, smaller = others
    assert all_tokens.hours == pytest.approx(5000) and smaller.hours == pytest.approx(5000)
    assert three.hours == RECIPE.fixed + RECIPE.scoring + 3 * 1002  # the whole of it, and no more


def test_ratios_that_are_promised_are_kept() -> None:
    _, tokens, _, smaller = fits(RECIPE, 5000.0)
    assert tokens.target_tokens / tokens.scored_tokens == pytest.approx(5)
    assert smaller.target_tokens / smaller.scored_tokens == pytest.approx(5)
    assert smaller.target_tokens / smaller.parameters == pytest.approx(1e12 / 7e9)


def test_the_whole_recipe_is_left_as_it_is() -> None:
    for fit in fits(RECIPE, 2 * RECIPE.hours):
        assert (fit.scored_tokens, fit.target_tokens, fit.parameters) == (200e9, 1e12, 7e9)
    assert fits(RECIPE, RECIPE.hours)[0].targets == 14


def test_a_rule_that_leaves_nothing_is_left_out() -> None:
    assert [fit.targets for fit in fits(RECIPE, 20.0)] == [3, 14]


@pytest.mark.parametrize("hours", [0.5, 0.0, -1.0, float("nan"), float("inf")])
def test_hours_that_cannot_do_anything_are_refused(hours: float) -> None:
    with pytest.raises(UserError):
        fits(RECIPE, hours)


def test_an_experiment_of_two_targets_is_not_planned_with_three() -> None:
    assert {fit.targets for fit in fits(replace(RECIPE, targets=2, seeds=1), 1500.0)} == {1, 2}


def test_what_is_unknown_stays_unknown_in_a_sum() -> None:
    assert total([1.0, None]) is None and total([1.0, 2.0]) == 3.0
    one = Cost("a", tokens=5.0, flops=7.2e15, rate=Rate(1e12, True, "measured"))
    unknown = replace(one, tokens=None, flops=None)
    both, other = grouped([one, Cost("b"), unknown])
    assert (both.stages, both.tokens, both.flops, both.gpu_hours) == (2, None, None, None)
    assert one.gpu_hours == 2.0 and other.gpu_hours == 0.0


def test_rates_are_never_mixed_in_one_row() -> None:
    first = Cost("a", flops=1.0, rate=Rate(1.0, True, "x"))
    assert len(grouped([first, replace(first, rate=Rate(2.0, True, "y")), first])) == 2
