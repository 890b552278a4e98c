"""The divergence from a teacher is that of float64 by its formula, over buckets that sum to one."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from airlab.randomness import generator
from airlab.schema.fine_tuning import Distillation
from airlab.training.distillation import DistilledLosses, buckets
from airlab.training.packing import NO_TARGET
from airlab.training.weighted_loss import cross_entropies, weighted_loss

TOKENS, VOCABULARY, HIDDEN, TOP_K = 23, 31, 8, 4
DIVERGENCES = ("forward_kl", "reverse_kl")


def given(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    draw = generator(0, "distillation test")
    made = {
        "student": torch.from_numpy(draw.normal(0, 2, (TOKENS, VOCABULARY))).to(dtype),
        "teacher": torch.from_numpy(draw.normal(0, 2, (TOKENS, VOCABULARY))).to(dtype),
        "labels": torch.from_numpy(draw.integers(0, VOCABULARY, TOKENS)),
    }
    made["tokens"] = made["teacher"].topk(TOP_K, dim=1).indices
    made["log_probs"] = buckets(made["teacher"], made["tokens"])
    return made


def softmax(scores: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(score / temperature) for score in scores]
    return [power / math.fsum(powers) for power in powers]


def in_buckets(logits: torch.Tensor, tokens: list[int], temperature: float) -> list[float]:
    """By definition, in Python's floats."""
    shares = softmax(logits.double().tolist())
    kept = [shares[token] for token in tokens]
    rest = math.fsum(share for token, share in enumerate(shares) if token not in tokens)
    powers = [share ** (1 / temperature) for share in [*kept, rest]]
    return [power / math.fsum(powers) for power in powers]


def test_buckets_hold_the_whole_distribution() -> None:
    made = given(torch.float64)
    found = buckets(made["student"], made["tokens"]).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(TOKENS, dtype=torch.float64), rtol=1e-12, atol=0)
    for row in range(TOKENS):
        expected = in_buckets(made["student"][row], made["tokens"][row].tolist(), 1.0)
        np.testing.assert_allclose(found[row].numpy(), expected, rtol=1e-12)


def test_the_rest_of_a_sure_teacher_is_not_lost_to_rounding() -> None:
    logits = torch.zeros(1, VOCABULARY)
    logits[0, 3] = 40.0
    rest = buckets(logits, torch.tensor([[3]]))[0, 1]
    assert float(rest) == pytest.approx(math.log(VOCABULARY - 1) - 40.0, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_losses_are_those_of_float64(
    dtype: torch.dtype, tolerance: float, divergence: str, share: float, temperature: float
) -> None:
    made = given(dtype)
    spec = Distillation.model_validate({"divergence": divergence, "temperature": temperature, "share": share})
    found = DistilledLosses(spec)(made["student"], made["labels"], made["tokens"], made["log_probs"])
    for row in range(TOKENS):
        tokens = made["tokens"][row].tolist()
        teacher, student = (in_buckets(made[of][row], tokens, temperature) for of in ("teacher", "student"))
        p, q = (teacher, student) if divergence == "forward_kl" else (student, teacher)
        kl = temperature**2 * math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        label = softmax(made["student"][row].double().tolist())[int(made["labels"][row])]
        expected = share * kl - (1 - share) * math.log(label)
        assert float(found[row]) == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_student_like_its_teacher_has_nothing_to_learn(divergence: str) -> None:
    made = given(torch.float32)
    logits = made["teacher"].requires_grad_()
    spec = Distillation.model_validate({"divergence": divergence, "share": 1.0})
    losses = DistilledLosses(spec)(logits, made["labels"], made["tokens"], made["log_probs"])
    assert float(losses.detach().abs().max()) < 1e-6
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert float(gradient.abs().max()) < 1e-6


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_a_share_of_nothing_is_cross_entropy_to_the_bit(divergence: str) -> None:
    made = given(torch.float32)
    logits = made["student"].requires_grad_()
    spec = Distillation.model_validate({"divergence": divergence, "share": 0.0})
    losses = DistilledLosses(spec)(logits, made["labels"], made["tokens"], made["log_probs"])
    plain = cross_entropies(logits, made["labels"])
    assert torch.equal(losses, plain)
    gradients = (torch.autograd.grad(some.sum(), logits)[0] for some in (losses, plain))
    assert torch.equal(*gradients)


def test_the_divergence_weighs_what_its_step_weighs_wherever_it_is_cut() -> None:
    """Through the projection in parts: left-out tokens leave nothing, the others in proportion."""
    made = given(torch.float64)
    draw = generator(1, "distillation test")
    states = torch.from_numpy(draw.normal(0, 1, (TOKENS, HIDDEN))).requires_grad_()
    projection = nn.Linear(HIDDEN, VOCABULARY, dtype=torch.float64)
    weights = torch.from_numpy(draw.uniform(0, 2, TOKENS))
    weights[::3] = 0
    labels = made["labels"].clone()
    labels[1] = NO_TARGET
    losses = DistilledLosses(Distillation(share=0.7))
    beside = (made["tokens"], made["log_probs"])
    kept = (weights != 0) & (labels != NO_TARGET)
    each = losses(projection(states)[kept], labels[kept], *(tensor[kept] for tensor in beside))
    expected = (each * weights[kept]).sum()
    for rows in (None, 2):
        found = weighted_loss(
            states, projection, labels, weights, losses=losses, beside=beside, rows_at_once=rows
        )
        torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=0)
        ours, theirs = (
            torch.autograd.grad(some, [states, *projection.parameters()], retain_graph=True)
            for some in (found.loss, expected)
        )
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
