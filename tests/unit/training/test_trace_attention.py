"""Packed traces train every family as the library trains them one by one: losses and gradients alike."""

import pytest
import torch

from airlab.training import attention
from airlab.training.fine_tune import WeightedSummedLoss
from tests.conftest import FAMILIES, VOCABULARY, small_model

LENGTHS = ((7, 1, 30), (20, 18))
"""Of the traces in two rows; one is longer than the families' sliding windows."""
WIDTH = 38


def packed() -> tuple[torch.Tensor, ...]:
    """Input ids, positions, labels and weights."""
    ids = (torch.arange(2 * WIDTH).view(2, WIDTH) * 7919 + 13) % VOCABULARY
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in LENGTHS])
    weights = torch.linspace(0.5, 2, 2 * WIDTH).view(2, WIDTH)
    return ids, positions, ids.roll(-1, dims=1), weights


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_losses_and_gradients_are_those_of_each_trace_alone(family: str) -> None:
    model = small_model(family).model
    model.requires_grad_(True)
    module = WeightedSummedLoss(model)
    model.set_attn_implementation(attention.NAME)
    summed = module(*packed())
    summed.backward()
    found = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    model.set_attn_implementation("sdpa")
    total = torch.zeros(())
    for row, lengths in enumerate(LENGTHS):
        for trace in zip(*(tensor[row].split(lengths) for tensor in packed()), strict=True):
            one = module(*(tensor[None] for tensor in trace))
            one.backward()
            total += one.detach()
    torch.testing.assert_close(summed.detach(), total, rtol=1e-5, atol=0)
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == (found[name] is None)
        if weight.grad is not None:
            scale = float(weight.grad.abs().max())
            torch.testing.assert_close(found[name], weight.grad, rtol=0, atol=1e-4 * scale + 1e-6)


def test_positions_decide_who_sees_whom() -> None:
    """Without a restart between them, the second trace would see the first: the test above can fail."""
    model = small_model("llama").model
    model.set_attn_implementation(attention.NAME)
    module = WeightedSummedLoss(model)
    ids, positions, labels, weights = packed()
    joined = torch.arange(WIDTH).expand(2, -1)
    apart, together = (float(module(ids, at, labels, weights)) for at in (positions, joined))
    assert abs(apart - together) > 1e-2 * apart
