"""The attention function that packs documents and masks heads inside the ordinary fused kernel.

transformers calls a registered function with queries, keys and values after projection, QK-norm
and rotary embedding. That is the one place where a head can be masked without a second model:
a query of zeros gives equal logits, and softmax over equal logits is uniform attention over the
visible prefix (AttentionInfluence, Appendix C). Keys and values stay untouched, so query heads
that share a key/value head with a masked one are not affected.

Shapes: B rows (1, or 2 where the reference model runs beside the base model), H query heads,
T packed tokens, D head size.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "airlab"
"""What a model's `attn_implementation` must be for this function to be called."""

MaskMode = Literal["uniform", "zero"]

Observer = Callable[[int, torch.Tensor, torch.Tensor, float, int | None], None]
"""Called per layer with (layer, queries BHTD, keys B,KV,T,D, scaling, sliding window) before attention."""


@dataclass(frozen=True)
class Layout:
    """What one packed forward pass looks like.

    Attributes:
        lengths: tokens of each packed sequence, in order; they add up to T.
        masked: layer → query heads masked in the last row of the batch.
        mode: `uniform` attention (the paper's) or a `zero` output for masked heads.
        observer: sees queries and keys of every layer.
    """

    lengths: tuple[int, ...]
    masked: dict[int, torch.Tensor]
    mode: MaskMode = "uniform"
    observer: Observer | None = None


_LAYOUT: ContextVar[Layout | None] = ContextVar("airlab_attention_layout", default=None)


@contextmanager
def attention_layout(layout: Layout) -> Iterator[None]:
    """Apply a layout to every forward pass inside the block, and to none outside."""
    token = _LAYOUT.set(layout)
    try:
        yield
    finally:
        _LAYOUT.reset(token)


def _attend_segment(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None
) -> torch.Tensor:
    """Causal attention inside one sequence, [B, H, n, D]."""
    length = query.shape[2]
    grouped = query.shape[1] != key.shape[1]
    if window is None or length <= window:
        return scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=grouped
        )
    row = torch.arange(length, device=query.device)
    distance = row[:, None] - row[None, :]
    visible = (distance >= 0) & (distance < window)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=visible, scale=scaling, enable_gqa=grouped
    )


def packed_masked_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one layer under the current `Layout`; [B, H, T, D] in, [B, T, H, D] out.

    Raises:
        RuntimeError: outside an `attention_layout` block, or for a variant of attention that
            this function does not compute exactly (soft-capped logits, attention sinks, an
            explicit mask, dropout).
    """
    layout = _LAYOUT.get()
    if layout is None:
        raise RuntimeError(
            "the airlab attention function needs an attention_layout block around the model call"
        )
    for name, present in (
        ("an explicit attention mask", attention_mask is not None),
        ("attention dropout", dropout > 0),
        ("soft-capped attention logits", softcap is not None),
        ("attention sinks", kwargs.get("s_aux") is not None),
        ("position biases", kwargs.get("position_bias") is not None),
    ):
        if present:
            raise RuntimeError(f"{name} cannot be computed exactly by the airlab attention function")
    layer: int = module.layer_idx  # type: ignore[assignment]
    if layout.observer is not None:
        scale = scaling if scaling is not None else query.shape[-1] ** -0.5
        layout.observer(layer, query, key, scale, sliding_window)
    heads = layout.masked.get(layer)
    if heads is not None and layout.mode == "uniform":
        query = query.clone()
        query[-1, heads] = 0
    pieces = [
        _attend_segment(q, k, v, scaling, sliding_window)
        for q, k, v in zip(
            query.split(layout.lengths, dim=2),
            key.split(layout.lengths, dim=2),
            value.split(layout.lengths, dim=2),
            strict=True,
        )
    ]
    output = torch.cat(pieces, dim=2) if len(pieces) > 1 else pieces[0]
    if heads is not None and layout.mode == "zero":
        output = output.clone()
        output[-1, heads] = 0
    return output.transpose(1, 2), None


AttentionInterface.register(NAME, packed_masked_attention)
