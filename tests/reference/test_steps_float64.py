"""Losses of steps against an independent float64 computation, one trace at a time."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from airlab.heads.mask import HeadMask
from airlab.models.load import CausalLM
from airlab.schema.traces import Aggregation
from airlab.scoring.steps import measure_steps
from airlab.selection.aggregation import StepLosses, step_influence, trace_scores
from airlab.text.trace_tokens import Step, TraceTokens

_SPEC = importlib.util.spec_from_file_location("llama_float64", Path(__file__).with_name("llama_float64.py"))
assert _SPEC is not None and _SPEC.loader is not None
reference = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)

MASKED = ((1, 0), (1, 4), (2, 5), (3, 1))


def traces() -> list[TraceTokens]:
    """Prompts of no to twenty tokens, steps of one to nine."""
    draw = np.random.default_rng(11)
    found = []
    for prompt in (0, 1, 5, 20):
        lengths = draw.integers(1, 10, 4)
        ids = draw.integers(0, 97, max(prompt, 1) + lengths.sum())
        borders = np.cumsum([max(prompt, 1), *lengths])
        steps = tuple(
            Step(i, i + 1, int(b), int(n)) for i, (b, n) in enumerate(zip(borders, lengths, strict=False))
        )
        found.append(TraceTokens(ids.astype(np.int32), np.zeros(0, np.int32), steps))
    return found


def by_step(lm: CausalLM, trace: TraceTokens, masked: set[tuple[int, int]]) -> np.ndarray:
    """[steps, 2]: sums of losses and of entropies of the tokens of each step."""
    weights = {k: v.double().numpy() for k, v in lm.model.state_dict().items()}
    losses, entropies = reference.token_losses(weights, lm.model.config, trace.ids.astype(np.int64), masked)
    inside = [range(s.first_token, s.first_token + s.n_tokens) for s in trace.steps]
    return np.array(
        [[sum(values[t - 1] for t in tokens) for values in (losses, entropies)] for tokens in inside]
    )


def test_sums_of_each_step_match_float64(llama: CausalLM) -> None:
    given = traces()
    found = measure_steps(
        llama, HeadMask(MASKED).reference(llama.device), given, window_tokens=128, tokens_per_batch=64
    )
    for trace, sums in zip(given, found, strict=True):
        base, masked = by_step(llama, trace, set()), by_step(llama, trace, set(MASKED))
        assert [s.n_tokens for s in sums] == [step.n_tokens for step in trace.steps]
        np.testing.assert_allclose([s.base for s in sums], base[:, 0], rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose([s.entropy for s in sums], base[:, 1], rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose([s.reference for s in sums], masked[:, 0], rtol=2e-5, atol=2e-5)
        assert np.abs(masked[:, 0] - base[:, 0]).max() > 0.05, "masking must matter, or this shows nothing"


def test_a_steps_score_is_its_relative_increase_given_all_before_it(llama: CausalLM) -> None:
    given = traces()
    found = measure_steps(
        llama, HeadMask(MASKED).reference(llama.device), given, window_tokens=128, tokens_per_batch=64
    )
    rows = [(str(i), s.n_tokens, s.base, s.reference) for i, sums in enumerate(found) for s in sums]
    columns = StepLosses(*(np.array(column) for column in zip(*rows, strict=True)))
    pairs = [(by_step(llama, t, set())[:, 0], by_step(llama, t, set(MASKED))[:, 0]) for t in given]
    expected = np.concatenate([(masked - base) / base for base, masked in pairs])
    np.testing.assert_allclose(step_influence(columns, 0.0), expected, atol=2e-5)
    _, scores = trace_scores(columns, Aggregation())
    whole = [(masked.sum() - base.sum()) / base.sum() for base, masked in pairs]
    np.testing.assert_allclose(scores, whole, atol=2e-5)


@pytest.mark.parametrize("window_tokens", [9, 128])
def test_a_step_alone_would_have_other_losses(llama: CausalLM, window_tokens: int) -> None:
    """The condition on what comes before matters, and a window takes some of it away."""
    trace = traces()[3]
    mask = HeadMask(MASKED).reference(llama.device)
    (sums,) = measure_steps(llama, mask, [trace], window_tokens=window_tokens, tokens_per_batch=64)
    last = by_step(llama, trace, set())[-1, 0]
    assert (abs(sums[-1].base - last) < 1e-3) == (window_tokens == 128)
