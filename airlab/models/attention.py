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
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from airlab.models.device import to_device

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
        tiles: block → what `query_tiles` makes of the lengths, on the GPU; made on the way if None.
    """

    lengths: tuple[int, ...]
    masked: dict[int, torch.Tensor]
    mode: MaskMode = "uniform"
    observer: Observer | None = None
    tiles: dict[int, torch.Tensor] | None = None


_LAYOUT: ContextVar[Layout | None] = ContextVar("airlab_attention_layout", default=None)
_LAYER: ContextVar[int] = ContextVar("airlab_attention_layer")


@contextmanager
def holding(variable: ContextVar[Any], value: object) -> Iterator[None]:
    """Give a variable a value inside the block."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def attention_layout(layout: Layout) -> AbstractContextManager[None]:
    """Apply a layout to every forward pass inside the block, and to none outside."""
    return holding(_LAYOUT, layout)


def inside_layer(layer: int) -> AbstractContextManager[None]:
    """Say which layer runs, for compiled layers: all of a kind share one program."""
    return holding(_LAYER, layer)


def attend_segment(
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


def _attend_one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    heads: torch.Tensor | None,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """PyTorch's own fused kernel, one sequence after the other; [B, T, H, D]."""
    if heads is not None and layout.mode == "uniform":
        query = query.clone()
        query[-1, heads] = 0
    pieces = [
        attend_segment(q, k, v, scaling, window)
        for q, k, v in zip(
            query.split(layout.lengths, dim=2),
            key.split(layout.lengths, dim=2),
            value.split(layout.lengths, dim=2),
            strict=True,
        )
    ]
    output = torch.cat(pieces, dim=2)
    if heads is not None and layout.mode == "zero":
        output[-1, heads] = 0
    return output.transpose(1, 2).contiguous()


@lru_cache(maxsize=4)
def _tiles(lengths: tuple[int, ...], block: int, device: torch.device) -> torch.Tensor:
    from airlab.kernels.varlen_attention import query_tiles

    return to_device(query_tiles(lengths, block), device)


def _attend_at_once(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    heads: torch.Tensor | None,
    scaling: float,
    window: int | None,
) -> torch.Tensor:
    """All sequences in one launch, for GPUs; [B, T, H, D]."""
    from airlab.kernels.varlen_attention import UNIFORM, ZERO, query_block, varlen_attention

    mask = torch.zeros(query.shape[:2], dtype=torch.int8, device=query.device)
    if heads is not None:
        mask[-1].index_fill_(0, heads, UNIFORM if layout.mode == "uniform" else ZERO)
    block = query_block(query.shape[-1])
    tiles = _tiles(layout.lengths, block, query.device) if layout.tiles is None else layout.tiles[block]
    return varlen_attention(query, key, value, mask, tiles, scaling, window)


@torch.library.custom_op("airlab::packed_attention", mutates_args=())
def _packed_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: int, scaling: float, window: int
) -> torch.Tensor:
    """One operator, so that torch.compile does not look inside: the layout differs from pass to pass."""
    layout = _LAYOUT.get()
    if layout is None:
        raise RuntimeError(
            "the airlab attention function needs an attention_layout block around the model call"
        )
    layer = _LAYER.get() if layer < 0 else layer
    if layout.observer is not None:
        layout.observer(layer, query, key, scaling, window or None)
    attend = _attend_at_once if query.is_cuda else _attend_one_by_one
    return attend(query, key, value, layout, layout.masked.get(layer), scaling, window or None)


@_packed_attention.register_fake
def _(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: int, scaling: float, window: int
) -> torch.Tensor:
    batch, heads, tokens, _ = query.shape
    return query.new_empty(batch, tokens, heads, value.shape[-1])


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
    for name, present in (
        ("an explicit attention mask", attention_mask is not None),
        ("attention dropout", dropout > 0),
        ("soft-capped attention logits", softcap is not None),
        ("attention sinks", kwargs.get("s_aux") is not None),
        ("position biases", kwargs.get("position_bias") is not None),
    ):
        if present:
            raise RuntimeError(f"{name} cannot be computed exactly by the airlab attention function")
    # A compiled layer serves all layers of its kind, so it must not read its own number.
    layer = -1 if torch.compiler.is_compiling() else int(module.layer_idx)  # type: ignore[arg-type]
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _packed_attention(query, key, value, layer, scaling, sliding_window or 0), None


AttentionInterface.register(NAME, packed_masked_attention)
