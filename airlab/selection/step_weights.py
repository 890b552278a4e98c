"""From scores of steps to the weights of their tokens in the loss (AIR: step-weighted fine-tuning).

The paper's formula is not available; these are the plain candidates. Each map gives every step a raw weight
that is not negative and does not fall as the score rises, and then all raw weights of a scope are divided by
their mean over its tokens. So

    sum over steps (tokens of the step * weight of the step) = sum of all tokens,

over every single trace where the scope is the trace, else over the corpus: the weighted sum of tokens'
losses, divided by the number of tokens, has the scale of plain fine-tuning's loss. Where all raw weights of a
scope are equal they are exactly 1.0, and fine-tuning is the plain one bit for bit.

Sums are correctly rounded (`math.fsum`), so that the order of the rows does not matter, to the last bit.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from airlab.errors import UserError
from airlab.schema.step_weights import (
    ClippedWeights,
    LinearWeights,
    RankWeights,
    SoftmaxWeights,
    StepWeights,
    TopShareWeights,
)


def step_weights(
    trace_id: np.ndarray, n_tokens: np.ndarray, score: np.ndarray, spec: StepWeights
) -> np.ndarray:
    """The weight of every token of each step.

    Args:
        trace_id: string array [steps]; which trace a step belongs to.
        n_tokens: int64 [steps], positive.
        score: float64 [steps], higher is more important.

    Returns:
        float64 [steps]; none negative, of mean 1 over the tokens of each scope.

    Raises:
        UserError: no steps, a step without tokens, or a score that is not a finite number.
    """
    if not len(score):
        raise UserError("there are no steps to weigh: check that the traces were scored.")
    if n_tokens.min() < 1:
        raise UserError(
            f"{int((n_tokens < 1).sum())} step(s) have no tokens: leave them out before weighing."
        )
    if not np.isfinite(score).all():
        bad = trace_id[~np.isfinite(score)]
        raise UserError(
            f"{len(bad)} step(s) have a score that is not a finite number (the first is in the trace "
            f"{bad[0]}); remove them or correct the score."
        )
    raw = _map(spec, n_tokens, score)
    weights = np.empty(len(score), dtype=np.float64)
    for members in _scopes(trace_id, spec):
        weights[members] = _normalised(n_tokens[members], raw(n_tokens[members], score[members]))
    return weights


def of_selected(trace_id: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Which steps are of selected traces, bool [steps].

    Args:
        trace_id: string array [steps].
        selected: string array [traces], unique.

    Raises:
        UserError: a selected trace has no steps.
    """
    absent = len(selected) - len(np.intersect1d(trace_id, selected))
    if absent:
        raise UserError(
            f"{absent} of {len(selected)} selected traces have no scores of steps: select among the traces "
            "that were scored."
        )
    return np.isin(trace_id, selected)


def check_weights(n_tokens: np.ndarray, weights: np.ndarray) -> None:
    """Refuses weights, of whatever origin, that a loss cannot be normalised with.

    Args:
        n_tokens: int64 [steps].
        weights: float64 [steps].

    Raises:
        UserError: a weight that is not a finite number or is negative, or all tokens' weights zero.
    """
    if not np.isfinite(weights).all():
        raise UserError(
            f"{int((~np.isfinite(weights)).sum())} weight(s) are not finite numbers; correct the weights."
        )
    if (weights < 0).any():
        raise UserError(
            f"{int((weights < 0).sum())} weight(s) are negative (the least is {weights.min():g}): training "
            "would unlearn those steps; make them zero or positive."
        )
    if not (n_tokens * weights).any():
        raise UserError("all weights are zero, so there is nothing to train on: give some step a weight.")


Raw = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(n_tokens, score) of the steps of one scope -> raw weights, of any scale."""


def _map(spec: StepWeights, n_tokens: np.ndarray, score: np.ndarray) -> Raw:
    """The map of a specification; only the softmax looks at the whole corpus."""
    if isinstance(spec, LinearWeights):
        return lambda _, values: _linear(values, values.min(), values.max(), spec.floor)
    if isinstance(spec, SoftmaxWeights):
        unit = spec.temperature * _spread(n_tokens, score)
        return lambda _, values: np.exp((values - values.max()) / unit) if unit else np.ones(len(values))
    if isinstance(spec, RankWeights):
        return lambda _, values: _raised((rankdata(values) - 0.5) / len(values), spec.floor)
    if isinstance(spec, ClippedWeights):
        return lambda tokens, values: _linear(
            values, _quantile(tokens, values, spec.lower), _quantile(tokens, values, spec.upper), spec.floor
        )
    return lambda tokens, values: _top(tokens, values, spec)


def _scopes(trace_id: np.ndarray, spec: StepWeights) -> list[np.ndarray]:
    """The steps that are normalised together, as int64 indices."""
    if spec.scope == "corpus":
        return [np.arange(len(trace_id))]
    order = np.argsort(trace_id, kind="stable")
    borders = np.flatnonzero(trace_id[order][1:] != trace_id[order][:-1]) + 1
    return np.split(order, borders)


def _normalised(n_tokens: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Raw weights, not all zero, divided by their mean over tokens; exactly 1.0 if they are equal."""
    if raw.min() == raw.max():
        return np.ones(len(raw))
    return raw * (math.fsum(n_tokens) / math.fsum(n_tokens * raw))


def _linear(score: np.ndarray, low: float, high: float, floor: float) -> np.ndarray:
    """From `floor` at `low` and below to 1 at `high` and above; all 1 where the two are the same."""
    if low == high:
        return np.ones(len(score))
    # Halves, because the difference of two large numbers of opposite sign may not be one.
    position = (np.clip(score, low, high) / 2 - low / 2) / (high / 2 - low / 2)
    return _raised(position, floor)


def _raised(share: np.ndarray, floor: float) -> np.ndarray:
    return floor + (1 - floor) * share


def _quantile(n_tokens: np.ndarray, score: np.ndarray, share: float) -> float:
    """The least score such that steps up to it hold the share of the tokens."""
    order = np.argsort(score, kind="stable")
    held = np.cumsum(n_tokens[order])
    return float(score[order][min(np.searchsorted(held, share * held[-1]), len(score) - 1)])


def _top(n_tokens: np.ndarray, score: np.ndarray, spec: TopShareWeights) -> np.ndarray:
    """1 for the highest scores that together hold the share of the tokens, and for all that tie; else 0."""
    order = np.argsort(-score, kind="stable")
    held = np.cumsum(n_tokens[order])
    last = min(np.searchsorted(held, spec.share * held[-1] * (1 - 1e-12)), len(score) - 1)
    return (score >= score[order][last]).astype(np.float64)


def _spread(n_tokens: np.ndarray, score: np.ndarray) -> float:
    """Standard deviation over tokens; zero where all scores are the same."""
    if score.min() == score.max():
        return 0.0
    tokens = math.fsum(n_tokens)
    mean = math.fsum(n_tokens * score) / tokens
    return math.sqrt(math.fsum(n_tokens * (score - mean) ** 2) / tokens)
