"""A model is exact when packed, or it is refused by name; nothing slips through in between."""

from functools import partial

import pytest
import torch
from transformers.masking_utils import create_causal_mask, sliding_window_overlay
from transformers.models.llama import modeling_llama

from airlab.errors import UserError
from airlab.models import attention
from airlab.models.exactness import check_exactness
from airlab.models.load import CausalLM, wrap
from tests.conftest import FAMILIES, REFUSED, random_model, small_model

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


@DTYPES
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_supported_families_pass(family, dtype):
    lm = small_model(family, dtype)
    check_exactness(lm)
    assert lm.model.config._attn_implementation == attention.NAME


@DTYPES
@pytest.mark.parametrize("family", sorted(REFUSED))
def test_other_families_are_refused_by_name(family, dtype):
    config, changes, reason = REFUSED[family]
    lm = wrap(random_model(config, changes).to(dtype), None, digest="")
    before = lm.model.config._attn_implementation
    with pytest.raises(UserError) as refusal:
        check_exactness(lm)
    message = str(refusal.value)
    assert type(lm.model).__name__ in message
    assert reason in message
    assert "use another model family" in message
    assert "\n" not in message
    assert lm.model.config._attn_implementation == before


def test_frequencies_of_long_documents_are_no_trap_for_short_ones():
    config, changes, _ = REFUSED["phi3-longrope"]
    check_exactness(wrap(random_model(config, changes), None, digest=""), longest=64)


def capped_logits(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = lm.model.forward

    def capped(*args, **kwargs):
        out = forward(*args, **kwargs)
        out.logits = 3 * torch.tanh(out.logits / 3)
        return out

    lm.model.forward = capped


def short_convolution(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    lm.model.model.layers[2].mlp.register_forward_hook(
        lambda module, args, out: out + 0.01 * out.roll(1, dims=1)
    )


def sums_over_the_batch(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    lm.model.model.layers[2].mlp.register_forward_hook(
        lambda module, args, out: out + 0.01 * out.mean(dim=1, keepdim=True)
    )


def positions_of_the_stream(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    table = 0.5 * torch.randn(256, 96, generator=torch.Generator().manual_seed(3))
    lm.model.model.embed_tokens.register_forward_hook(
        lambda module, args, out: out + table[: out.shape[1]].to(out.dtype)
    )


def linear_biases(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = modeling_llama.eager_attention_forward

    def biased(module, query, key, value, attention_mask, **kwargs):
        place = torch.arange(query.shape[2])
        slopes = (0.1 * (place - place[:, None])).to(query.dtype)
        return plain(module, query, key, value, attention_mask + slopes, **kwargs)

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", biased)


def soft_caps(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def capped(module, query, key, value, attention_mask, scaling, **kwargs):
        key, value = (modeling_llama.repeat_kv(t, module.num_key_value_groups) for t in (key, value))
        scores = 20 * torch.tanh(query @ key.transpose(2, 3) * scaling / 20) + attention_mask
        return (scores.float().softmax(-1).to(value.dtype) @ value).transpose(1, 2), None

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", capped)


def key_heads_shared_in_turn(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modeling_llama, "repeat_kv", lambda states, n: states.repeat(1, n, 1, 1))


def far_window(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def windowed(**kwargs):
        return create_causal_mask(**kwargs, and_mask_function=sliding_window_overlay(200))

    monkeypatch.setattr(modeling_llama, "create_causal_mask", windowed)


def mask_of_its_own(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(**kwargs):
        mask = create_causal_mask(**kwargs)
        return None if mask is None else mask.clone()

    monkeypatch.setattr(modeling_llama, "create_causal_mask", copied)


def selected_keys(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer in lm.model.model.layers:
        layer.self_attn.forward = partial(layer.self_attn.forward, block_indices=torch.zeros(1))


def attention_in_three_layers(lm: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    lm.model.model.layers[1].self_attn.forward = lambda hidden_states, **kwargs: (hidden_states, None)


@DTYPES
@pytest.mark.parametrize(
    ("trap", "reason"),
    [
        (capped_logits, "change their logits"),
        (short_convolution, "leak"),
        (sums_over_the_batch, "leak"),
        (positions_of_the_stream, "other states for packed documents"),
        (linear_biases, "attention in layer 0 differs"),
        (soft_caps, "attention in layer 0 differs"),
        (key_heads_shared_in_turn, "attention in layer 0 differs"),
        (far_window, "let token 255 see 200 tokens"),
        (mask_of_its_own, "a mask of their own"),
        (selected_keys, "block_indices"),
        (attention_in_three_layers, "3 of 4 layers"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_traps_are_found_by_measurement(monkeypatch, trap, reason, dtype):
    lm = small_model("llama", dtype)
    trap(lm, monkeypatch)
    with pytest.raises(UserError, match=f"LlamaForCausalLM cannot be scored exactly: .*{reason}"):
        check_exactness(lm)


@pytest.mark.parametrize("fault", ["scale", "window", "heads"])
def test_faults_of_our_own_attention_are_found(monkeypatch, fault):
    inner = attention.packed_masked_attention

    def wrong(module, query, key, value, mask, **kwargs):
        if fault == "scale":
            kwargs["scaling"] *= 1.02
        if fault == "window":
            kwargs["sliding_window"] = 17
        out, none = inner(module, query, key, value, mask, **kwargs)
        return (out.roll(1, dims=2) if fault == "heads" else out), none

    attention.AttentionInterface.register(attention.NAME, wrong)
    try:
        with pytest.raises(UserError, match="attention in layer 0 differs"):
            check_exactness(small_model("mistral-sliding"))
    finally:
        attention.AttentionInterface.register(attention.NAME, inner)


@pytest.mark.parametrize("scale", [1.0, 1.1])
def test_compiled_parts_are_held_against_uncompiled_ones(scale):
    lm = small_model("llama")

    def backend(graph, inputs):
        return lambda *args: tuple(scale * t for t in graph(*args))

    for layer in lm.model.model.layers:
        layer.mlp.forward = torch.compile(layer.mlp.forward, backend=backend, dynamic=True)
    if scale == 1:
        check_exactness(lm)
    else:
        with pytest.raises(UserError, match="other states for packed documents"):
            check_exactness(lm)
