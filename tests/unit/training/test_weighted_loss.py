"""The weighted loss is what it says in float64, and ones as weights are no weights at all, to the bit."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from airlab.errors import UserError
from airlab.training.packing import NO_TARGET
from airlab.training.weighted_loss import check_token_weights, weighted_loss

TOKENS, HIDDEN, VOCABULARY = 23, 12, 37
ROWS = [1, 4, 7, 1000, None]


def given(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, nn.Linear, torch.Tensor, torch.Tensor]:
    """States, projection, labels of which some predict nothing, weights of which some are zero."""
    draw = torch.Generator().manual_seed(3)
    projection = nn.Linear(HIDDEN, VOCABULARY)
    with torch.no_grad():
        for parameter in projection.parameters():
            parameter.normal_(generator=draw)
    states = torch.randn(TOKENS, HIDDEN, generator=draw).to(dtype).requires_grad_()
    labels = torch.randint(0, VOCABULARY, (TOKENS,), generator=draw)
    labels[[0, 5, 6, 22]] = NO_TARGET
    weights = torch.rand(TOKENS, generator=draw) * 3
    weights[[2, 6, 9, 10, 21]] = 0
    return states, projection.to(dtype), labels, weights


def gradients(loss: torch.Tensor, states: torch.Tensor, projection: nn.Linear) -> Sequence[torch.Tensor]:
    return torch.autograd.grad(loss, [states, *projection.parameters()])


def by_definition(
    states: torch.Tensor, projection: nn.Linear, labels: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Token by token in float64."""
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for t, label in enumerate(labels.tolist()):
        if label != NO_TARGET:
            logits = projection.weight.double() @ states[t].double() + projection.bias.double()
            total = total + weights[t].double() * (logits.exp().sum().log() - logits[label])
            weight += float(weights[t])
    return total, weight


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 3e-6)])
def test_values_and_gradients_are_those_of_float64(
    dtype: torch.dtype, tolerance: float, rows: int | None
) -> None:
    states, projection, labels, weights = given(dtype)
    found = weighted_loss(states, projection, labels, weights, rows_at_once=rows)
    expected, weight = by_definition(states, projection, labels, weights)
    assert found.loss.dtype == dtype
    np.testing.assert_allclose(found.loss.item(), expected.item(), rtol=tolerance)
    np.testing.assert_allclose(found.weight.item(), weight, rtol=1e-12)
    theirs = gradients(expected, states, projection)
    for mine, other in zip(gradients(found.loss, states, projection), theirs, strict=True):
        scale = float(other.abs().max())
        torch.testing.assert_close(mine, other, rtol=0, atol=tolerance * scale, check_dtype=False)


@pytest.mark.parametrize("rows", ROWS)
def test_weights_of_one_are_no_weights_to_the_bit(rows: int | None) -> None:
    states, projection, labels, _ = given()
    plain = weighted_loss(states, projection, labels, rows_at_once=rows)
    ones = weighted_loss(states, projection, labels, torch.ones(TOKENS), rows_at_once=rows)
    assert torch.equal(plain.loss, ones.loss) and torch.equal(plain.weight, ones.weight)
    assert plain.weight.item() == int((labels != NO_TARGET).sum())
    both = (gradients(sums.loss, states, projection) for sums in (plain, ones))
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))


@pytest.mark.parametrize("rows", ROWS)
def test_tokens_that_weigh_nothing_contribute_nothing_whatever_they_hold(rows: int | None) -> None:
    states, projection, labels, weights = given()
    counted = (labels != NO_TARGET) & (weights > 0)
    assert 0 < counted.sum() < TOKENS
    spoilt = states.detach().clone()
    spoilt[~counted] = float("nan")
    spoilt.requires_grad_()
    few = states.detach()[counted].requires_grad_()
    found = weighted_loss(spoilt, projection, labels, weights, rows_at_once=rows)
    alone = weighted_loss(few, projection, labels[counted], weights[counted], rows_at_once=rows)
    assert torch.equal(found.loss, alone.loss) and torch.equal(found.weight, alone.weight)
    of_states, *of_projection = gradients(found.loss, spoilt, projection)
    of_few, *of_theirs = gradients(alone.loss, few, projection)
    assert torch.equal(of_states[counted], of_few) and not of_states[~counted].any()
    assert all(torch.equal(a, b) for a, b in zip(of_projection, of_theirs, strict=True))


def test_no_more_logits_exist_at_a_time_than_was_asked_for() -> None:
    states, projection, labels, weights = given()
    seen: list[int] = []
    projection.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    kept: list[tuple[int, ...]] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = weighted_loss(states, projection, labels, weights, rows_at_once=4).loss
    forward = len(seen)
    assert forward > 2 and not [shape for shape in kept if shape[-1:] == (VOCABULARY,) and len(shape) > 1]
    loss.backward()
    assert max(seen) == 4 and len(seen) == 2 * forward, "the backward pass did not compute them again"


def test_a_part_without_a_predicted_token_still_has_gradients() -> None:
    """Data parallelism waits for the gradient of every parameter."""
    states, projection, labels, _ = given()
    found = weighted_loss(states, projection, torch.full_like(labels, NO_TARGET))
    assert found.loss.item() == 0 and found.weight.item() == 0
    assert not any(gradient.any() for gradient in gradients(found.loss, states, projection))


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    states, projection, labels, weights = given()
    with pytest.raises(ValueError, match="weights have the shape"):
        weighted_loss(states, projection, labels, weights[:, None])
    with pytest.raises(ValueError, match="labels have the shape"):
        weighted_loss(states, projection, labels[1:], weights)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0], "one weight"),
        ([1.0, float("nan"), 1.0], "not finite"),
        ([1.0, float("inf"), 1.0], "not finite"),
        ([1.0, -0.5, 1.0], "negative"),
        ([0.0, 0.0, 0.0], "all weights are zero"),
        ([5.0, 0.0, 0.0], "all weights are zero"),  # the first predicts nothing
    ],
)
def test_weights_that_cannot_be_normalised_with_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_token_weights(np.array([NO_TARGET, 4, 5]), np.array(weights, dtype=np.float32))


def test_weights_of_which_some_are_zero_are_fine() -> None:
    check_token_weights(np.array([NO_TARGET, 4, 5]), np.array([0.0, 2.0, 0.0], dtype=np.float32))
