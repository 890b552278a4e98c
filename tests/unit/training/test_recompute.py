"""Layers that are computed again keep their input and nothing else, whatever function they were given."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from airlab.errors import UserError
from airlab.schema.machine import Machine
from airlab.schema.training import TargetModel
from airlab.training.recompute import recompute_layers
from airlab.training.target import SummedLoss, build_target

LAYERS = 3


def loss_of(module: nn.Module) -> torch.Tensor:
    ids = torch.arange(32)[None] % 7
    loss: torch.Tensor = module(ids, torch.arange(32)[None], ids)
    return loss


def a_module() -> SummedLoss:
    shape = TargetModel(
        vocabulary=128, hidden_size=16, layers=LAYERS, heads=2, kv_heads=1, intermediate_size=32, context=32,
        tie_embeddings=True,
    )  # fmt: skip
    return SummedLoss(build_target(shape, 128, 0, seed=0))


def kept(module: nn.Module) -> int:
    """Bytes that autograd keeps for the backward pass."""
    found: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of(module)
    del loss
    return sum(found.values())


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("replaced", [False, True])
def test_layers_run_twice_and_give_the_same_gradient(mode: str, replaced: bool) -> None:
    plain, again = (getattr(a_module(), mode)() for _ in range(2))
    calls: list[None] = []
    if replaced:  # as a faster function of the same layer is put in its place
        for layer in again.target.model.layers:
            own = layer.forward

            def counted(*arguments: Any, own: Any, **named: Any) -> Any:
                calls.append(None)
                return own(*arguments, **named)

            layer.forward = partial(counted, own=own)
    recompute_layers(again, Machine())
    loss_of(plain).backward()
    loss_of(again).backward()
    assert len(calls) == (2 * LAYERS if replaced else 0)
    for (name, weight), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert weight.grad is not None and other.grad is not None, name
        assert torch.equal(weight.grad, other.grad), name


def test_less_is_kept() -> None:
    plain, again = a_module(), a_module()
    recompute_layers(again, Machine())
    assert kept(again) < kept(plain) / 2


def test_a_model_whose_layers_are_not_known_is_refused() -> None:
    with pytest.raises(UserError, match="cannot be computed again; choose"):
        recompute_layers(nn.Linear(2, 2), Machine())
