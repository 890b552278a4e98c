"""Attention written out head by head in float64, one sequence at a time: the oracle of every family.

It shares no code with the package and takes transformers' own mask for the lone sequence, so
windows are whatever the family says. A masked head's weights are equal over what it may see.
"""

import copy
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

NAME = "explicit_attention_of_the_tests"

_MASKED: ContextVar[dict[int, list[int]] | None] = ContextVar("masked_heads", default=None)


def _explicit(module, query, key, value, attention_mask, scaling, softcap=None, dropout=0.0, **rest):
    assert query.shape[0] == 1 and not dropout and rest.get("s_aux") is None
    length, heads = query.shape[2], query.shape[1]
    visible = attention_mask.reshape(length, length)
    masked = (_MASKED.get() or {}).get(module.layer_idx, [])
    rows = []
    for head in range(heads):
        shared = head * key.shape[1] // heads
        scores = query[0, head].double() @ key[0, shared].double().T * scaling
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        shares = torch.where(visible, (scores - scores.max()).exp(), 0)
        if head in masked:
            shares = visible.double()
        rows.append(shares / shares.sum(1, keepdim=True) @ value[0, shared].double())
    return torch.stack(rows, dim=1)[None].to(value.dtype), None


def _visible(*args, allow_is_causal_skip=False, **kwargs):
    return sdpa_mask(*args, allow_is_causal_skip=False, **kwargs)


AttentionInterface.register(NAME, _explicit)
AttentionMaskInterface.register(NAME, _visible)


@contextmanager
def _masked_heads(masked):
    token = _MASKED.set(masked)
    try:
        yield
    finally:
        _MASKED.reset(token)


@torch.no_grad()
def states_one_by_one(model, tokens, lengths, masked):
    """Last hidden states [2, T, hidden] of the base and the reference model, each sequence alone.

    Args:
        model: any transformers causal LM; computed in float32.
        masked: layer → query heads masked in the reference model.
    """
    model = copy.deepcopy(model).float()
    model.set_attn_implementation(NAME)
    rows = []
    for heads in ({}, masked):
        with _masked_heads(heads):
            decoder = model.get_decoder()
            alone = [
                decoder(input_ids=piece[None], use_cache=False).last_hidden_state[0]
                for piece in tokens.split(list(lengths))
            ]
        rows.append(torch.cat(alone))
    return torch.stack(rows)
