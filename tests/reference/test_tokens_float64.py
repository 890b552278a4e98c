"""Numbers of single tokens against plain transformers in float64, and against what scoring adds up."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from airlab.heads.attended import attended_by, most_attended
from airlab.heads.mask import HeadMask
from airlab.models.load import CausalLM
from airlab.scoring.losses import measure_documents
from airlab.scoring.tokens import measure_tokens

_SPEC = importlib.util.spec_from_file_location("llama_float64", Path(__file__).with_name("llama_float64.py"))
assert _SPEC is not None and _SPEC.loader is not None
reference = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)

MASKED = ((1, 0), (1, 4), (2, 5), (3, 1))
HEAD = (2, 5)


def drawn(tokens: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 97, tokens).astype(np.int32)


def attention(lm: CausalLM, ids: np.ndarray, head: tuple[int, int]) -> np.ndarray:
    """The head's whole attention matrix, [n, n], by transformers itself in float64."""
    model = copy.deepcopy(lm.model).double()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(torch.from_numpy(ids.astype(np.int64))[None], output_attentions=True, use_cache=False)
    return out.attentions[head[0]][0, head[1]].numpy()


@pytest.mark.parametrize("window_tokens", [200, 16])
def test_losses_and_attended_positions_match_plain_transformers(llama: CausalLM, window_tokens: int) -> None:
    ids = drawn(50)
    mask = HeadMask(MASKED).reference(llama.device)
    found = measure_tokens(llama, mask, HEAD, ids, window_tokens=window_tokens, tokens_per_batch=64)
    weights = {k: v.double().numpy() for k, v in llama.model.state_dict().items()}
    cuts = [(0, 50)] if window_tokens == 200 else [(0, 16), (15, 31), (30, 46), (45, 50)]
    assert found.windows == tuple(start for start, _ in cuts[1:])
    for start, end in cuts:  # every token but the first is in one of them, and in one alone
        piece, inside = ids[start:end], slice(start, end - 1)
        for ours, heads in ((found.base, set()), (found.reference, set(MASKED))):
            expected, _ = reference.token_losses(weights, llama.model.config, piece.astype(np.int64), heads)
            np.testing.assert_allclose(ours[inside], expected, rtol=2e-5, atol=2e-5)
        shares = attention(llama, piece, HEAD)[:-1]
        chosen = shares[np.arange(len(piece) - 1), found.attended[inside] - start]
        np.testing.assert_allclose(chosen, shares.max(axis=1), rtol=1e-5)  # a near-tie may go either way
        agree = np.mean(found.attended[inside] - start == shares.argmax(axis=1))
        assert agree > 0.9
    assert np.abs(found.reference - found.base).max() > 0.05, "masking must matter, or this shows nothing"
    assert len(set(found.attended.tolist())) > 5, "a head that always looks at one place shows nothing"


@pytest.mark.parametrize(("tokens", "window_tokens"), [(2, 64), (17, 64), (64, 64), (65, 64), (150, 64)])
def test_tokens_add_up_to_the_documents_losses(llama: CausalLM, tokens: int, window_tokens: int) -> None:
    ids = drawn(tokens)
    mask = HeadMask(MASKED).reference(llama.device)
    found = measure_tokens(llama, mask, HEAD, ids, window_tokens=window_tokens, tokens_per_batch=128)
    (sums,) = measure_documents(llama, mask, [ids], window_tokens=window_tokens, tokens_per_batch=128)
    assert len(found.base) == len(found.reference) == len(found.attended) == sums.n_tokens == tokens - 1
    np.testing.assert_allclose(found.base.sum(dtype=np.float64), sums.base, rtol=1e-12)
    np.testing.assert_allclose(found.reference.sum(dtype=np.float64), sums.reference, rtol=1e-12)


@pytest.mark.parametrize("name", ["llama", "mistral-sliding", "gpt2"])
def test_one_heads_positions_are_those_of_all_heads_together(name: str) -> None:
    from tests.conftest import small_model

    lm, ids = small_model(name), drawn(60)
    (every,) = most_attended(lm, [ids], [np.arange(60)]).positions
    for layer in range(every.shape[0]):
        for head in range(0, every.shape[1], 2):
            np.testing.assert_array_equal(attended_by(lm, ids, layer, head), every[layer, head])


def test_rows_compared_a_few_at_a_time_give_the_same(
    llama: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = drawn(60)
    at_once = attended_by(llama, ids, *HEAD)
    monkeypatch.setattr("airlab.heads.attended._LOGITS", 150)
    np.testing.assert_array_equal(attended_by(llama, ids, *HEAD), at_once)
