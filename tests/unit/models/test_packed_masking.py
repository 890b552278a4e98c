"""Packing and masking must be exact in every family, and gone when the pass is over."""

import numpy as np
import pytest
import torch

from airlab.models import attention
from airlab.models.load import CausalLM
from airlab.models.packed import Reference, hidden_states

LENGTHS = [5, 1, 30, 18]


def stream(seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).integers(0, 97, sum(LENGTHS)))


def reference(mode: str = "uniform") -> Reference:
    return Reference({1: torch.tensor([0, 5]), 3: torch.tensor([2])}, mode)


def one_by_one(lm: CausalLM, tokens: torch.Tensor, masked: Reference | None) -> torch.Tensor:
    return torch.cat(
        [hidden_states(lm, piece, [len(piece)], masked) for piece in tokens.split(LENGTHS)], dim=1
    )


def test_packed_equals_one_by_one_in_both_rows(any_family):
    tokens = stream()
    packed = hidden_states(any_family, tokens, LENGTHS, reference())
    alone = one_by_one(any_family, tokens, reference())
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)


def test_base_row_equals_transformers_own_attention(any_family):
    tokens = stream()
    ours = hidden_states(any_family, tokens, LENGTHS, reference())[0]
    any_family.model.set_attn_implementation("eager")
    theirs = []
    for piece in tokens.split(LENGTHS):
        theirs.append(
            any_family.model.get_decoder()(input_ids=piece[None], use_cache=False).last_hidden_state[0]
        )
    any_family.model.set_attn_implementation(attention.NAME)
    torch.testing.assert_close(ours, torch.cat(theirs), rtol=1e-4, atol=1e-4)


def test_masked_head_outputs_the_running_mean_of_its_values(any_family, monkeypatch):
    outputs: dict[int, torch.Tensor] = {}
    values: dict[int, torch.Tensor] = {}
    inner = attention.packed_masked_attention

    def spy(module, query, key, value, *rest, **kwargs):
        out, none = inner(module, query, key, value, *rest, **kwargs)
        outputs[module.layer_idx], values[module.layer_idx] = out, value
        return out, none

    attention.AttentionInterface.register(attention.NAME, spy)
    try:
        n = 14  # shorter than the sliding window
        hidden_states(any_family, stream()[:n], [n], reference())
    finally:
        attention.AttentionInterface.register(attention.NAME, inner)
    groups = any_family.geometry.heads // any_family.geometry.kv_heads
    for layer, heads in reference().heads.items():
        for head in heads.tolist():
            v = values[layer][1, head // groups]
            mean = v.cumsum(0) / torch.arange(1, n + 1)[:, None]
            torch.testing.assert_close(outputs[layer][1, :, head], mean, rtol=1e-5, atol=1e-5)


def test_zero_mode_is_not_uniform_mode(llama):
    tokens = stream()
    uniform = hidden_states(llama, tokens, LENGTHS, reference("uniform"))
    zero = hidden_states(llama, tokens, LENGTHS, reference("zero"))
    torch.testing.assert_close(uniform[0], zero[0])
    assert (uniform[1] - zero[1]).abs().max() > 1e-2


def test_no_masked_heads_means_two_equal_rows(llama):
    states = hidden_states(llama, stream(), LENGTHS, Reference({}))
    assert torch.equal(states[0], states[1])


def test_mask_is_undone_after_the_pass_and_after_a_failure(llama):
    tokens = stream()
    before = hidden_states(llama, tokens, LENGTHS)
    hidden_states(llama, tokens, LENGTHS, reference())
    with pytest.raises(IndexError):
        hidden_states(llama, tokens, LENGTHS, Reference({0: torch.tensor([99])}))
    assert torch.equal(hidden_states(llama, tokens, LENGTHS), before)
    assert not llama.model.get_decoder().layers[0]._forward_pre_hooks


def test_future_tokens_never_leak_into_masked_heads(any_family):
    tokens = stream()
    changed = tokens.clone()
    changed[-1] = (changed[-1] + 1) % 97
    ours = [hidden_states(any_family, t, [len(t)], reference())[:, :-1] for t in (tokens, changed)]
    torch.testing.assert_close(*ours, rtol=1e-5, atol=1e-5)


def test_the_model_cannot_be_called_outside_a_layout(llama):
    with pytest.raises(RuntimeError, match="attention_layout"):
        llama.model(input_ids=torch.tensor([[1, 2, 3]]))
