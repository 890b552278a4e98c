"""Heads masked in an ordinary model: exact with padding and with a cache, and gone when the block ends."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from airlab.models import masked
from airlab.models.load import CausalLM
from airlab.models.masked import masked_heads
from airlab.models.packed import Reference, hidden_states
from tests.conftest import FAMILIES, REFUSED, random_model

HEADS = {1: [0, 5], 3: [2]}
LENGTHS = (5, 14, 9)
PADDED_FAMILIES = ("llama", "llama-multi-head", "qwen2-sliding-above", "gemma3-two-ropes")
"""Plain, without groups, and with windows that the longest sequence exceeds."""


def reference(mode: Any = "uniform") -> Reference:
    return Reference({layer: torch.tensor(heads) for layer, heads in HEADS.items()}, mode)


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).integers(3, 97, count))


def plain_model(family: str, dtype: torch.dtype = torch.float64) -> Any:
    return random_model(*FAMILIES[family]).to(dtype)


@contextmanager
def watched() -> Iterator[dict[int, Any]]:
    """What each layer was given and gave, by layer: (queries, values, output)."""
    calls: dict[int, Any] = {}
    inner = masked.masked_attention

    def spy(module: Any, query: Any, key: Any, value: Any, *rest: Any, **settings: Any) -> Any:
        output, none = inner(module, query, key, value, *rest, **settings)
        calls[int(module.layer_idx)] = query, value, output
        return output, none

    masked.AttentionInterface.register(masked.NAME, spy)
    try:
        yield calls
    finally:
        masked.AttentionInterface.register(masked.NAME, inner)


@pytest.mark.parametrize("mode", ["uniform", "zero"])
def test_equals_the_reference_row_of_the_packed_pass(any_family: CausalLM, mode: str) -> None:
    ids = tokens(30)
    packed = hidden_states(any_family, ids, [30], reference(mode))
    decoder = any_family.model.get_decoder()
    with masked_heads(any_family.model, reference(mode)), torch.inference_mode():
        ours = decoder(input_ids=ids[None], use_cache=False).last_hidden_state[0]
    torch.testing.assert_close(ours, packed[1], rtol=1e-4, atol=1e-4)
    assert (packed[1] - packed[0]).abs().max() > 1e-2  # the comparison could have failed


def test_a_masked_head_gives_the_running_mean_of_its_values(any_family: CausalLM) -> None:
    count = 14  # shorter than the sliding windows
    with watched() as calls, masked_heads(any_family.model, reference()), torch.inference_mode():
        any_family.model.get_decoder()(input_ids=tokens(count)[None], use_cache=False)
    for layer, heads in HEADS.items():
        _, value, output = calls[layer]
        groups = any_family.geometry.heads // value.shape[1]
        for head in heads:
            mean = value[0, head // groups].cumsum(0) / torch.arange(1, count + 1)[:, None]
            torch.testing.assert_close(output[0, :, head], mean, rtol=1e-5, atol=1e-5)


def test_the_other_heads_of_a_layer_are_untouched_even_where_they_share_keys_and_values() -> None:
    model = plain_model("llama")
    outputs = []
    for heads in ({1: torch.tensor([0, 5])}, {}):
        with watched() as calls, masked_heads(model, Reference(heads)), torch.inference_mode():
            model(input_ids=tokens(20)[None], use_cache=False)
        outputs.append(calls[1][2])
    with_mask, without = outputs
    assert torch.equal(with_mask[:, :, 1:5], without[:, :, 1:5])
    assert all((with_mask[:, 1:, head] - without[:, 1:, head]).abs().max() > 1e-3 for head in (0, 5))


def test_with_no_heads_to_mask_it_is_transformers_own_attention() -> None:
    model = plain_model("llama", torch.float32)
    model.set_attn_implementation("sdpa")
    ids = torch.stack([tokens(16), tokens(16, 1)])
    with torch.inference_mode():
        theirs = model(input_ids=ids).logits
        with masked_heads(model, Reference({})):
            ours = model(input_ids=ids).logits
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("family", PADDED_FAMILIES)
@pytest.mark.parametrize("side", ["left", "right", "right, as lm-eval does it, without saying so"])
@pytest.mark.parametrize("mode", ["uniform", "zero"])
def test_padding_changes_nothing(family: str, side: str, mode: str) -> None:
    model = plain_model(family)
    sequences = [tokens(length, length) for length in (*LENGTHS, 24)]
    width = max(map(len, sequences))
    ids = torch.zeros(len(sequences), width, dtype=torch.int64)
    visible = torch.zeros_like(ids)
    places = [slice(width - len(s), width) if side == "left" else slice(0, len(s)) for s in sequences]
    for row, (sequence, place) in enumerate(zip(sequences, places, strict=True)):
        ids[row, place], visible[row, place] = sequence, 1
    mask = visible if "without" not in side else None
    positions = (visible.cumsum(1) - 1).clamp(min=0)
    with masked_heads(model, reference(mode)), torch.inference_mode():
        batch = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        for row, (sequence, place) in enumerate(zip(sequences, places, strict=True)):
            alone = model(input_ids=sequence[None], use_cache=False).logits[0]
            torch.testing.assert_close(batch[row, place], alone, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("family", PADDED_FAMILIES)
@pytest.mark.parametrize("mode", ["uniform", "zero"])
def test_generating_with_a_cache_equals_computing_everything_anew(family: str, mode: str) -> None:
    model = plain_model(family)
    prompts = [tokens(length, length) for length in LENGTHS]
    width, new = max(LENGTHS), 12
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    visible = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :], visible[row, width - len(prompt) :] = prompt, 1
    asked: Any = {"max_new_tokens": new, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with masked_heads(model, reference(mode)), torch.inference_mode():
        made = model.generate(
            input_ids=ids, attention_mask=visible, use_cache=True, output_logits=True,
            return_dict_in_generate=True, **asked,
        )  # fmt: skip
        for row, prompt in enumerate(prompts):
            sequence = prompt
            for step in range(new):
                logits = model(input_ids=sequence[None], use_cache=False).logits[0, -1]
                torch.testing.assert_close(made.logits[step][row].double(), logits, rtol=1e-5, atol=1e-5)
                sequence = torch.cat([sequence, logits.argmax()[None]])
            assert made.sequences[row, width:].tolist() == sequence[len(prompt) :].tolist()


def test_the_mask_ends_with_the_block_and_with_a_failure() -> None:
    model = plain_model("llama")
    before, ids = model.config._attn_implementation, tokens(10)[None]
    intact = model(input_ids=ids).logits
    with masked_heads(model, reference()):
        assert not torch.equal(model(input_ids=ids).logits, intact)
    with pytest.raises(ValueError, match="broken"), masked_heads(model, reference()):
        raise ValueError("broken")
    assert model.config._attn_implementation == before
    assert torch.equal(model(input_ids=ids).logits, intact)


def test_a_call_outside_a_block_is_refused() -> None:
    model = plain_model("llama")
    model.set_attn_implementation(masked.NAME)
    with pytest.raises(RuntimeError, match="masked_heads block"):
        model(input_ids=tokens(4)[None])


def test_a_layer_that_was_never_masked_is_an_error() -> None:
    model = plain_model("llama")
    with (
        pytest.raises(RuntimeError, match="no heads were masked in layer 7"),
        masked_heads(model, Reference({1: torch.tensor([0]), 7: torch.tensor([0])})),
    ):
        model(input_ids=tokens(4)[None])


def test_attention_that_a_zero_query_does_not_make_uniform_is_refused() -> None:
    config, changes, _ = REFUSED["gpt-oss-sinks"]
    model = random_model(config, changes)
    with (
        pytest.raises(RuntimeError, match="attention sinks"),
        masked_heads(model, Reference({1: torch.tensor([0])})),
    ):
        model(input_ids=tokens(4)[None])
