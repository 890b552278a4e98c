"""Summed cross-entropy through an output projection, whose gradients are made where the logits are.

A loss's gradient by its logits needs nothing from above but one factor. So the gradients of states and
weights are computed for one part of the positions after the other in the forward pass, while that part's
logits exist, and are multiplied by the factor later: logits are computed once, and never all of them exist.
"""

from typing import Any

import torch

from airlab.kernels.cross_entropy import cross_entropy_in_place
from airlab.training.packing import NO_TARGET

ROWS_AT_ONCE = 8192
"""Positions whose logits are in memory together: enough for the matrix products to be fast."""


class _SummedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        projection = weight.to(states.dtype)
        d_states, d_weight = torch.empty_like(states), torch.zeros_like(weight)
        total = torch.zeros((), dtype=torch.float32, device=states.device)
        parts = (tensor.split(ROWS_AT_ONCE) for tensor in (states, labels, d_states))
        for part, part_labels, d_part in zip(*parts, strict=True):
            logits = part @ projection.t()
            total += cross_entropy_in_place(logits, part_labels, NO_TARGET).sum()
            torch.mm(logits, projection, out=d_part)
            d_weight += logits.t() @ part
        context.save_for_backward(d_states, d_weight)
        return total

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        (factor,) = gradients
        d_states, d_weight = context.saved_tensors
        return d_states * factor.to(d_states.dtype), d_weight * factor, None


def summed_linear_loss(states: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Summed cross-entropy (nats, float32 scalar); differentiable once, in states and weight.

    Args:
        states: [T, hidden], last hidden states; their type is that of the matrix products.
        weight: [vocabulary, hidden], the output projection, float32.
        labels: int64 [T]; NO_TARGET for nothing.
    """
    loss: torch.Tensor = _SummedLoss.apply(states, weight, labels)
    return loss
