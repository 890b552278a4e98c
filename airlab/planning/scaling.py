"""What fits into a number of GPU-hours: the recipe made smaller by stated rules."""

import math
from dataclasses import dataclass

from airlab.errors import UserError


@dataclass(frozen=True)
class Recipe:
    """An experiment in GPU-hours.

    Attributes:
        fixed: once, and independent of all sizes below: finding heads.
        scoring: of all tokens that are scored.
        training: of one target (an arm with one seed).
        evaluation: of one target.
        targets: arms times seeds.
        seeds: of every arm.
        scored_tokens: of the corpus.
        target_tokens: that every target is trained on.
        parameters: of the target.
    """

    fixed: float
    scoring: float
    training: float
    evaluation: float
    targets: int
    seeds: int
    scored_tokens: float
    target_tokens: float
    parameters: float

    @property
    def hours(self) -> float:
        """All of it."""
        return self.fixed + self.scoring + self.targets * (self.training + self.evaluation)


@dataclass(frozen=True)
class Fit:
    """One way to make the recipe fit; the numbers are of what is left, and `hours` is what that takes."""

    rule: str
    targets: int
    scored_tokens: float
    target_tokens: float
    parameters: float
    hours: float


LEAST_ARMS = 3
"""The full pool, its random control, and what is asked about."""


def fits(recipe: Recipe, gpu_hours: float) -> tuple[Fit, ...]:
    """What can be done with `gpu_hours`, by four rules; a rule that cannot be kept is left out.

    1. Every size as it is, fewer targets: as many as fit beside scoring everything.
    2. All targets; tokens scored and target tokens shrink by one factor, so that every target still sees its
       corpus as many times over. Model sizes stay.
    3. The same with one seed of three arms: full pool, random, and one selector.
    4. All targets; the target's parameters, its tokens and the tokens scored shrink by one factor, so that
       tokens per parameter and passes over the corpus stay. Training then shrinks by its square.

    Nothing grows beyond the recipe. Finding heads is the same in all; evaluation in 1 to 3.

    Raises:
        UserError: the hours are not a positive number, or no rule leaves anything.
    """
    if not (math.isfinite(gpu_hours) and gpu_hours > 0):
        raise UserError(f"gpu_hours={gpu_hours} is not possible: give a positive number of hours.")
    least = min(recipe.targets, LEAST_ARMS)
    found = [
        _fewer_targets(recipe, gpu_hours),
        _fewer_tokens(recipe, gpu_hours, recipe.targets, "all targets, fewer tokens scored and trained on"),
        _fewer_tokens(recipe, gpu_hours, least, f"one seed of {least} arms, fewer tokens"),
        _smaller_target(recipe, gpu_hours),
    ]
    fitting = tuple(fit for fit in found if fit is not None)
    if not fitting:
        raise UserError(
            f"{gpu_hours:g} GPU-hours are not enough to find heads and evaluate {least} targets "
            f"({recipe.fixed + least * recipe.evaluation:.3g} GPU-hours); choose a smaller scale."
        )
    return fitting


def _fewer_targets(recipe: Recipe, hours: float) -> Fit | None:
    shared = recipe.fixed + recipe.scoring
    each = recipe.training + recipe.evaluation
    fitting = min(recipe.targets, math.floor((hours - shared) / each))
    if fitting < 1:
        return None
    rule = f"sizes as they are, {fitting} of {recipe.targets} targets"
    return Fit(
        rule, fitting, recipe.scored_tokens, recipe.target_tokens, recipe.parameters, shared + fitting * each
    )


def _fewer_tokens(recipe: Recipe, hours: float, targets: int, rule: str) -> Fit | None:
    fixed = recipe.fixed + targets * recipe.evaluation
    shrinking = recipe.scoring + targets * recipe.training
    factor = min(1.0, (hours - fixed) / shrinking)
    if factor <= 0:
        return None
    return Fit(
        rule,
        targets,
        factor * recipe.scored_tokens,
        factor * recipe.target_tokens,
        recipe.parameters,
        fixed + factor * shrinking,
    )


def _smaller_target(recipe: Recipe, hours: float) -> Fit | None:
    # fixed + s (scoring + evaluations) + s² trainings = hours; evaluation shrinks with the target
    linear = recipe.scoring + recipe.targets * recipe.evaluation
    square = recipe.targets * recipe.training
    left = hours - recipe.fixed
    if left <= 0:
        return None
    factor = min(1.0, (math.sqrt(linear**2 + 4 * square * left) - linear) / (2 * square))
    return Fit(
        "all targets, smaller ones on fewer tokens",
        recipe.targets,
        factor * recipe.scored_tokens,
        factor * recipe.target_tokens,
        factor * recipe.parameters,
        recipe.fixed + factor * linear + factor**2 * square,
    )
