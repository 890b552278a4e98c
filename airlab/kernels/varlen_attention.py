"""Causal attention inside packed documents, with masked heads, as one Triton kernel.

Every program computes one tile of one document's queries for one head. Tiles start where documents
start, so what a document gets does not depend on what it is packed with: its result is the same to
the last bit in every batch. A head masked to uniform attention is the same kernel with a query of
zeros (see `airlab.models.attention`), which costs nothing: no copy of the queries is made.

The loop is FlashAttention-2's online softmax (Dao, arXiv 2307.08691).
"""

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

UNMASKED, UNIFORM, ZERO = 0, 1, 2
"""What a head of the mask argument does: attend, attend uniformly, output zeros."""

LOG2_E = 1.4426950408889634


@triton.jit
def _attend(
    query, keys, values, output, log_sums, mask, tiles,
    q_row, q_head, q_token, o_row, o_head, o_token, tokens, scale_log2, window,
    HEADS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, BLOCK_VALUE: tl.constexpr, SLIDING: tl.constexpr, KEEP: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) // HEADS
    head = tl.program_id(0) % HEADS
    first = tl.load(tiles + 3 * tl.program_id(1))
    start = tl.load(tiles + 3 * tl.program_id(1) + 1)
    end = tl.load(tiles + 3 * tl.program_id(1) + 2)
    if first >= end:
        return
    masked = tl.load(mask + row * HEADS + head)

    here = first + tl.arange(0, BLOCK_Q)
    lane = tl.arange(0, BLOCK_SIZE)
    q_at = query + row.to(tl.int64) * q_row + head * q_head + here[:, None].to(tl.int64) * q_token
    q = tl.load(q_at + lane[None, :], mask=(here < end)[:, None] & (lane < SIZE)[None, :], other=0.0)
    q = tl.where(masked != 0, tl.zeros_like(q), q)

    most = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    mixed = tl.zeros([BLOCK_Q, BLOCK_VALUE], tl.float32)
    if SLIDING:
        start += tl.maximum(first - window + 1 - start, 0) // BLOCK_K * BLOCK_K
    else:
        # Before the tile every key is visible: no comparisons in this loop.
        for at in range(start, first, BLOCK_K):
            k = keys.load([row, head // GROUP, at, 0]).reshape(BLOCK_K, BLOCK_SIZE)
            logits = tl.dot(q, k.T, input_precision=PRECISION)
            higher = tl.maximum(most, tl.max(logits, 1) * scale_log2)
            share = tl.exp2(logits * scale_log2 - higher[:, None])
            fade = tl.exp2(most - higher)
            total = total * fade + tl.sum(share, 1)
            v = values.load([row, head // GROUP, at, 0]).reshape(BLOCK_K, BLOCK_VALUE)
            mixed = tl.dot(share.to(v.dtype), v, mixed * fade[:, None], input_precision=PRECISION)
            most = higher
        start = first
    for at in range(start, tl.minimum(first + BLOCK_Q, end), BLOCK_K):
        there = at + tl.arange(0, BLOCK_K)
        k = keys.load([row, head // GROUP, at, 0]).reshape(BLOCK_K, BLOCK_SIZE)
        logits = tl.dot(q, k.T, input_precision=PRECISION) * scale_log2
        visible = here[:, None] >= there[None, :]
        if SLIDING:
            visible = visible & (here[:, None] - there[None, :] < window)
        logits = tl.where(visible, logits, float("-inf"))
        higher = tl.maximum(most, tl.max(logits, 1))
        level = higher
        if SLIDING:
            # A row that has seen nothing yet keeps -inf, and -inf - -inf is not a number.
            level = tl.where(higher == float("-inf"), 0.0, higher)
        share = tl.exp2(logits - level[:, None])
        fade = tl.exp2(most - level)
        total = total * fade + tl.sum(share, 1)
        v = values.load([row, head // GROUP, at, 0]).reshape(BLOCK_K, BLOCK_VALUE)
        mixed = tl.dot(share.to(v.dtype), v, mixed * fade[:, None], input_precision=PRECISION)
        most = higher
    if KEEP:
        kept_at = log_sums + tl.program_id(0).to(tl.int64) * tokens + here
        tl.store(kept_at, most + tl.log2(total), mask=here < end)
    mixed = tl.where(masked == 2, 0.0, mixed / total[:, None])
    value_lane = tl.arange(0, BLOCK_VALUE)
    o_at = output + row.to(tl.int64) * o_row + head * o_head + here[:, None].to(tl.int64) * o_token
    tl.store(
        o_at + value_lane[None, :],
        mixed.to(output.dtype.element_ty),
        mask=(here < end)[:, None] & (value_lane < VALUE_SIZE)[None, :],
    )


def query_tiles(lengths: Sequence[int], block: int) -> np.ndarray:
    """Tiles of packed documents, int32 [tiles, 3]: first query, start and end of its document.

    Those with the most keys to visit come first, so that no long tile is left for the end. T tokens
    of n documents have at most T / block + n tiles. A tile that ends where it starts does nothing.

    Args:
        lengths: tokens of each document.
        block: queries of a tile, see `query_block`.
    """
    ends = np.cumsum(lengths)
    starts = ends - lengths
    counts = -(-np.asarray(lengths) // block)
    document = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    tiles = np.stack([starts[document] + within * block, starts[document], ends[document]], axis=1)
    return tiles[np.argsort(-within, kind="stable")].astype(np.int32)


QUERY_BLOCKS = (64, 128)
"""Every value of `query_block`."""


def query_block(head_size: int) -> int:
    """Queries of one tile; measured on an H100."""
    return 64 if head_size <= 64 else 128


def described(states: torch.Tensor, block: list[int]) -> TensorDescriptor:
    """What the GPU's tensor memory accelerator needs to know to load blocks of [B, heads, T, size]."""
    step = 16 // states.element_size()
    if states.stride(-1) != 1 or any(s % step for s in states.stride()[:3]) or states.data_ptr() % 16:
        states = torch.nn.functional.pad(states, (0, -states.shape[-1] % step)).contiguous()
    return TensorDescriptor.from_tensor(states, block)


def varlen_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    tiles: torch.Tensor,
    scale: float,
    window: int | None,
    log_sums: torch.Tensor | None = None,
) -> torch.Tensor:
    """Causal attention inside each document.

    Args:
        query: [B, H, T, D]; key: [B, KV, T, D]; value: [B, KV, T, Dv].
        mask: int8 [B, H], `UNMASKED`, `UNIFORM` or `ZERO` for each head of each row.
        tiles: `query_tiles` of the documents for this head size, on the device. Tokens in no tile
            get undefined results.
        scale: factor of the logits.
        window: positions a query sees, itself included; None for all before it.
        log_sums: float32 [B, H, T], filled with the logarithm to base 2 of what each query's softmax divides
            by, which is all that a backward pass needs to know of it.

    Returns:
        [B, T, H, Dv], contiguous.
    """
    batch, heads, tokens, size = query.shape
    value_size = value.shape[-1]
    query = query if query.stride(-1) == 1 else query.contiguous()
    output = query.new_empty(batch, tokens, heads, value_size)
    exact = query.dtype == torch.float32
    block_size, block_value = (max(16, triton.next_power_of_2(n)) for n in (size, value_size))
    block_q, block_k = query_block(size), 32 if exact else 64
    wide = block_q > 64
    _attend[(batch * heads, len(tiles))](
        query, described(key, [1, 1, block_k, block_size]), described(value, [1, 1, block_k, block_value]),
        output, output if log_sums is None else log_sums, mask, tiles,
        query.stride(0), query.stride(1), query.stride(2),
        output.stride(0), output.stride(2), output.stride(1),
        tokens, scale * LOG2_E, window or 0,
        HEADS=heads, GROUP=heads // key.shape[1], SIZE=size, VALUE_SIZE=value_size,
        BLOCK_SIZE=block_size, BLOCK_VALUE=block_value,
        SLIDING=window is not None, KEEP=log_sums is not None, BLOCK_Q=block_q, BLOCK_K=block_k,
        PRECISION="tf32x3" if exact else "tf32",
        num_warps=8 if wide or exact else 4, num_stages=3 if wide and not exact else 2,
    )  # fmt: skip
    return output
