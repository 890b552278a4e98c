"""Masked heads in an ordinary model, for whoever calls that model itself: a harness that pads and generates.

`airlab.models.attention` masks heads of packed documents, where there is neither padding nor a cache. Here
transformers' own attention, masks and cache stay in charge, and a head is masked around them: with its
queries set to zero after the rotary embedding it attends to all visible positions alike, whatever makes them
visible (causality, padding, a window, a cache). Keys and values stay as they are, so query heads that share
them with a masked one are not affected (AttentionInfluence, Appendix C).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from airlab.models.attention import holding
from airlab.models.packed import Reference

NAME = "airlab_masked"
"""What a model's `attn_implementation` is while its heads are masked."""


@dataclass
class _Masking:
    """The masked heads, and the layers that were seen to compute attention."""

    reference: Reference
    seen: set[int] = field(default_factory=set)


_MASKING: ContextVar[_Masking] = ContextVar("airlab_masking")


def masked_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **settings: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer, its masked heads masked; [B, H, T, D] in, [B, T, H, D] out.

    Raises:
        RuntimeError: outside a `masked_heads` block, or for a variant of attention in which a query of zeros
            is not uniform attention.
    """
    masking = _MASKING.get(None)
    if masking is None:
        raise RuntimeError(f"the attention function {NAME} needs a masked_heads block around the model call")
    for name, setting in (("attention sinks", "s_aux"), ("position biases", "position_bias")):
        if settings.get(setting) is not None:
            raise RuntimeError(f"{name} are not computed by the attention function {NAME}")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    masking.seen.add(layer)
    heads = masking.reference.heads.get(layer)
    if heads is not None and masking.reference.mode == "uniform":
        query = query.index_fill(1, heads, 0)
    output, none = sdpa_attention_forward(module, query, key, value, attention_mask, **settings)
    if heads is not None and masking.reference.mode == "zero":
        output = output.index_fill(2, heads, 0)
    return output, none


AttentionInterface.register(NAME, masked_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def masked_heads(model: Any, reference: Reference) -> Iterator[None]:
    """Mask heads in every call of a model inside the block: forward passes and generation, padded or cached.

    Raises:
        RuntimeError: when the block ends, a layer with masked heads has not computed attention through
            transformers' attention interface, so that nothing was masked in it.
    """
    masking = _Masking(reference)
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        with holding(_MASKING, masking):
            yield
    finally:
        model.set_attn_implementation(before)
    if missed := sorted(reference.heads.keys() - masking.seen):
        raise RuntimeError(
            f"no heads were masked in layer {missed[0]}: models of type {type(model).__name__} do not "
            "compute attention there through transformers' attention interface"
        )
