"""Attention inside packed documents, differentiable, for training on GPUs.

Fused attention functions either know no documents or are handed a mask; here documents are tiles of work (see
`airlab.kernels.varlen_attention`), and what lies between them is never visited.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from airlab.kernels.varlen_attention import query_block, query_tiles, varlen_attention
from airlab.kernels.varlen_attention_backward import backward_tiles, varlen_attention_backward


def attention_tiles(lengths: Sequence[int], head_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `document_attention` must know of the documents, each int32 [tiles, 3].

    Args:
        lengths: tokens of each document, in order, with no gaps between them.
    """
    return query_tiles(lengths, query_block(head_size)), *backward_tiles(lengths)


@torch.library.custom_op("airlab::document_attention", mutates_args=())
def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tiles: torch.Tensor,
    query_tiles: torch.Tensor,
    key_tiles: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    q, k, v = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
    log_sums = q.new_empty(q.shape[:3], dtype=torch.float32)
    unmasked = q.new_zeros(q.shape[:2], dtype=torch.int8)
    return varlen_attention(q, k, v, unmasked, tiles, scale, None, log_sums)[0], log_sums[0]


@_attention.register_fake
def _(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, heads, _size = query.shape
    return query.new_empty(query.shape), query.new_empty((heads, tokens), dtype=torch.float32)


@torch.library.custom_op("airlab::document_attention_backward", mutates_args=())
def _attention_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    log_sums: torch.Tensor,
    query_tiles: torch.Tensor,
    key_tiles: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return varlen_attention_backward(
        gradient, query, key, value, output, log_sums, query_tiles, key_tiles, scale
    )


@_attention_backward.register_fake
def _(
    gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    query, key, value, _tiles, query_tiles, key_tiles, ctx.scale = inputs
    ctx.save_for_backward(query, key, value, *output, query_tiles, key_tiles)


def _gradients(
    context: Any, gradient: torch.Tensor, _: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    gradients = torch.ops.airlab.document_attention_backward(gradient, *context.saved_tensors, context.scale)
    return (*gradients, None, None, None, None)


_attention.register_autograd(_gradients, setup_context=_keep)


def document_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, tiles: Sequence[torch.Tensor], scale: float
) -> torch.Tensor:
    """Causal attention inside each document; [T, H, D] and two [T, KV, D] in, [T, H, D] out.

    Args:
        tiles: `attention_tiles` of the documents, on the device.
        scale: factor of the logits.
    """
    output: torch.Tensor = torch.ops.airlab.document_attention(query, key, value, *tiles, scale)[0]
    return output
