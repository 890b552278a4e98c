"""The influence score against an independent float64 computation from the paper's equation."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from airlab.heads.mask import HeadMask
from airlab.models.load import CausalLM
from airlab.scoring.influence import attention_influence
from airlab.scoring.losses import measure_documents, token_losses

_SPEC = importlib.util.spec_from_file_location("llama_float64", Path(__file__).with_name("llama_float64.py"))
reference = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)

MASKED = ((1, 0), (1, 4), (2, 5), (3, 1))


def float64_losses(
    lm: CausalLM, tokens: np.ndarray, masked: set[tuple[int, int]]
) -> tuple[np.ndarray, np.ndarray]:
    weights = {k: v.double().numpy() for k, v in lm.model.state_dict().items()}
    return reference.token_losses(weights, lm.model.config, tokens, masked)


@pytest.fixture
def documents() -> list[np.ndarray]:
    draw = np.random.default_rng(7)
    return [draw.integers(0, 97, n) for n in (2, 3, 17, 40)]


def test_token_losses_of_both_models_and_entropy_match_float64(llama, documents):
    mask = HeadMask(MASKED).reference(llama.device)
    for i, ours in token_losses(llama, mask, documents, tokens_per_batch=64):
        base, entropy = float64_losses(llama, documents[i], set())
        masked, _ = float64_losses(llama, documents[i], set(MASKED))
        np.testing.assert_allclose(ours.base, base, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(ours.reference, masked, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(ours.entropy, entropy, rtol=2e-5, atol=2e-5)
        if len(documents[i]) > 3:
            assert np.abs(masked - base).max() > 0.05, "masking must matter, or this test shows nothing"


def test_score_is_the_papers_equation(llama, documents):
    sums = measure_documents(
        llama, HeadMask(MASKED).reference(llama.device), documents, window_tokens=64, tokens_per_batch=64
    )
    ours = attention_influence(np.array([s.base for s in sums]), np.array([s.reference for s in sums]))
    for score, tokens in zip(ours, documents, strict=True):
        base = float64_losses(llama, tokens, set())[0].mean()
        masked = float64_losses(llama, tokens, set(MASKED))[0].mean()
        assert score == pytest.approx((masked - base) / base, abs=2e-5)
