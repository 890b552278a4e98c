"""Cross-entropy with a weight for every predicted token, without `[tokens, vocabulary]` logits in memory.

A token that weighs nothing is not multiplied by zero but left out, before the output projection: prompts and
padding cost no logits there, and nothing that is wrong with such a token can reach a gradient.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from airlab.errors import UserError
from airlab.selection.step_weights import check_weights
from airlab.training.packing import NO_TARGET

LOGITS_AT_ONCE = 1 << 24
"""Logits held at a time (64 MiB in float32); the backward pass computes them again."""


TokenLosses = Callable[..., torch.Tensor]
"""The loss [n] of each token from logits [n, vocabulary], labels [n] and whatever goes beside these."""


def cross_entropies(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """[n], nats."""
    return nn.functional.cross_entropy(logits, labels, reduction="none")


class WeightedSum(NamedTuple):
    """Two sums over the predicted tokens of this call; whoever holds the whole batch divides them."""

    loss: torch.Tensor
    """Weight times loss in nats, a scalar of float32 (float64 where the states are)."""
    weight: torch.Tensor
    """Scalar of float64, without gradient."""


def weighted_loss(
    states: torch.Tensor,
    projection: nn.Linear,
    labels: torch.Tensor,
    weights: torch.Tensor | None = None,
    *,
    losses: TokenLosses = cross_entropies,
    beside: tuple[torch.Tensor, ...] = (),
    rows_at_once: int | None = None,
) -> WeightedSum:
    """Weighted loss of some positions, by default cross-entropy; differentiable in states and projection.

    Args:
        states: [tokens, hidden], last hidden states.
        projection: the output projection, hidden to vocabulary.
        labels: int64 [tokens], what each position predicts; NO_TARGET for nothing.
        weights: [tokens], of what each position predicts; finite and not negative (see
            `check_token_weights`). None weighs all predicted tokens 1, to the same bits as ones.
        losses: the loss of each token.
        beside: what that takes besides logits and labels, each [tokens, …].
        rows_at_once: positions whose logits are in memory together; by default what `LOGITS_AT_ONCE` allows.

    Raises:
        ValueError: shapes that do not belong together.
    """
    for name, given in (("labels", labels), ("weights", weights)):
        if given is not None and given.shape != states.shape[:1]:
            raise ValueError(f"{name} have the shape {tuple(given.shape)}, states {tuple(states.shape)}")
    predicted = labels != NO_TARGET
    kept = predicted if weights is None else predicted & (weights != 0)
    states, labels = states[kept], labels[kept]
    beside = tuple(tensor[kept] for tensor in beside)
    exact = torch.promote_types(states.dtype, torch.float32)
    weights = torch.ones_like(labels, dtype=exact) if weights is None else weights[kept].to(exact)
    if rows_at_once is None:
        rows_at_once = max(1, LOGITS_AT_ONCE // projection.weight.shape[0])
    total = torch.zeros((), dtype=exact, device=states.device)
    # Where nothing is kept one empty part remains: every parameter has a gradient, which other processes
    # wait for.
    for part in zip(*(t.split(rows_at_once) for t in (states, labels, weights, *beside)), strict=True):
        total = total + checkpoint(_part, losses, projection, *part, use_reentrant=False)
    return WeightedSum(total, weights.sum(dtype=torch.float64))


def _part(
    losses: TokenLosses,
    projection: nn.Linear,
    states: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    *beside: torch.Tensor,
) -> torch.Tensor:
    logits = projection(states).to(weights.dtype)
    return (losses(logits, labels, *beside) * weights).sum()


def check_token_weights(labels: np.ndarray, weights: np.ndarray) -> None:
    """Refuses weights of tokens, of whatever origin, that a loss cannot be normalised with.

    Args:
        labels: int64 [tokens], what each position predicts; NO_TARGET for nothing.
        weights: [tokens].

    Raises:
        UserError: another number of weights than of tokens, a weight that is negative or not a finite number,
            or nothing but zeros where there is something to predict.
    """
    if labels.shape != weights.shape:
        raise UserError(
            f"there are weights of shape {weights.shape} for tokens of shape {labels.shape}: give every "
            "token one weight."
        )
    check_weights((labels != NO_TARGET).astype(np.int64), weights)
