"""The backward pass of `varlen_attention` without masked heads, as two Triton kernels.

One gives the gradient of the queries, a program for each tile of queries; the other that of keys and
values, a program for each tile of keys. Each computes the shares of attention again from the logarithms
that the forward pass kept. No program adds to what another one writes, so gradients are the same to the
last bit in every run, and keys that several query heads share need no sum afterwards.

The equations are FlashAttention-2's (Dao, arXiv 2307.08691, algorithm 2).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from airlab.kernels.varlen_attention import LOG2_E, described, query_tiles

BLOCK = 128
"""Tokens of a tile: of queries in the one kernel, of keys in the other."""
_KEYS_AT_ONCE, _QUERIES_AT_ONCE = 64, 32
"""What each kernel reads of the other side in one step; measured on an H100."""


@triton.jit
def _query_gradient(
    query, keys, values, output, gradient, log_sums, products, q_gradient, tiles,
    q_head, q_token, o_head, o_token, g_head, g_token, dq_head, dq_token, tokens, scale_log2, scale,
    GROUP: tl.constexpr, SIZE: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    first = tl.load(tiles + 3 * tl.program_id(1))
    start = tl.load(tiles + 3 * tl.program_id(1) + 1)
    end = tl.load(tiles + 3 * tl.program_id(1) + 2)
    if first >= end:
        return
    here = first + tl.arange(0, BLOCK_Q)
    lane = tl.arange(0, BLOCK_SIZE)
    inside = (here < end)[:, None] & (lane < SIZE)[None, :]
    row = here[:, None].to(tl.int64)
    q = tl.load(query + head * q_head + row * q_token + lane[None, :], mask=inside, other=0.0)
    g = tl.load(gradient + head * g_head + row * g_token + lane[None, :], mask=inside, other=0.0)
    o = tl.load(output + head * o_head + row * o_token + lane[None, :], mask=inside, other=0.0)
    kept = head.to(tl.int64) * tokens + here
    product = tl.sum(g.to(tl.float32) * o.to(tl.float32), 1)
    tl.store(products + kept, product, mask=here < end)
    log_sum = tl.load(log_sums + kept, mask=here < end, other=float("inf"))

    total = tl.zeros([BLOCK_Q, BLOCK_SIZE], tl.float32)
    for at in range(start, first, BLOCK_K):
        k = keys.load([0, head // GROUP, at, 0]).reshape(BLOCK_K, BLOCK_SIZE)
        v = values.load([0, head // GROUP, at, 0]).reshape(BLOCK_K, BLOCK_SIZE)
        logits = tl.dot(q, k.T, input_precision=PRECISION)
        towards = tl.dot(g, v.T, input_precision=PRECISION)
        share = tl.exp2(logits * scale_log2 - log_sum[:, None])
        change = share * (towards - product[:, None])
        total = tl.dot(change.to(k.dtype), k, total, input_precision=PRECISION)
    for at in range(first, tl.minimum(first + BLOCK_Q, end), BLOCK_K):
        there = at + tl.arange(0, BLOCK_K)
        k = keys.load([0, head // GROUP, at, 0]).reshape(BLOCK_K, BLOCK_SIZE)
        v = values.load([0, head // GROUP, at, 0]).reshape(BLOCK_K, BLOCK_SIZE)
        logits = tl.dot(q, k.T, input_precision=PRECISION)
        towards = tl.dot(g, v.T, input_precision=PRECISION)
        share = tl.exp2(logits * scale_log2 - log_sum[:, None])
        share = tl.where(here[:, None] >= there[None, :], share, 0.0)
        change = share * (towards - product[:, None])
        total = tl.dot(change.to(k.dtype), k, total, input_precision=PRECISION)
    at_q = q_gradient + head * dq_head + row * dq_token + lane[None, :]
    tl.store(at_q, (total * scale).to(q_gradient.dtype.element_ty), mask=inside)


@triton.jit
def _key_gradients(
    queries, key, value, gradients, log_sums, products, k_gradient, v_gradient, tiles,
    k_head, k_token, v_head, v_token, dk_head, dk_token, dv_head, dv_token, tokens, scale_log2, scale,
    GROUP: tl.constexpr, SIZE: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    first = tl.load(tiles + 3 * tl.program_id(1))
    end = tl.load(tiles + 3 * tl.program_id(1) + 2)
    if first >= end:
        return
    there = first + tl.arange(0, BLOCK_K)
    lane = tl.arange(0, BLOCK_SIZE)
    inside = (there < end)[:, None] & (lane < SIZE)[None, :]
    row = there[:, None].to(tl.int64)
    k = tl.load(key + head * k_head + row * k_token + lane[None, :], mask=inside, other=0.0)
    v = tl.load(value + head * v_head + row * v_token + lane[None, :], mask=inside, other=0.0)

    k_total = tl.zeros([BLOCK_K, BLOCK_SIZE], tl.float32)
    v_total = tl.zeros([BLOCK_K, BLOCK_SIZE], tl.float32)
    for member in range(GROUP):
        q_head = head * GROUP + member
        kept = q_head.to(tl.int64) * tokens
        for at in range(first, tl.minimum(first + BLOCK_K, end), BLOCK_Q):
            here = at + tl.arange(0, BLOCK_Q)
            q = queries.load([0, q_head, at, 0]).reshape(BLOCK_Q, BLOCK_SIZE)
            g = gradients.load([0, q_head, at, 0]).reshape(BLOCK_Q, BLOCK_SIZE)
            # Of queries beyond the document every share is 0.
            log_sum = tl.load(log_sums + kept + here, mask=here < end, other=float("inf"))
            product = tl.load(products + kept + here, mask=here < end, other=0.0)
            logits = tl.dot(k, q.T, input_precision=PRECISION)
            share = tl.exp2(logits * scale_log2 - log_sum[None, :])
            share = tl.where(here[None, :] >= there[:, None], share, 0.0)
            v_total = tl.dot(share.to(q.dtype), g, v_total, input_precision=PRECISION)
            towards = tl.dot(v, g.T, input_precision=PRECISION)
            change = share * (towards - product[None, :])
            k_total = tl.dot(change.to(q.dtype), q, k_total, input_precision=PRECISION)
        for at in range(first + BLOCK_K, end, BLOCK_Q):
            here = at + tl.arange(0, BLOCK_Q)
            q = queries.load([0, q_head, at, 0]).reshape(BLOCK_Q, BLOCK_SIZE)
            g = gradients.load([0, q_head, at, 0]).reshape(BLOCK_Q, BLOCK_SIZE)
            log_sum = tl.load(log_sums + kept + here, mask=here < end, other=float("inf"))
            product = tl.load(products + kept + here, mask=here < end, other=0.0)
            logits = tl.dot(k, q.T, input_precision=PRECISION)
            share = tl.exp2(logits * scale_log2 - log_sum[None, :])
            v_total = tl.dot(share.to(q.dtype), g, v_total, input_precision=PRECISION)
            towards = tl.dot(v, g.T, input_precision=PRECISION)
            change = share * (towards - product[None, :])
            k_total = tl.dot(change.to(q.dtype), q, k_total, input_precision=PRECISION)
    at_k = k_gradient + head * dk_head + row * dk_token + lane[None, :]
    tl.store(at_k, (k_total * scale).to(k_gradient.dtype.element_ty), mask=inside)
    at_v = v_gradient + head * dv_head + row * dv_token + lane[None, :]
    tl.store(at_v, v_total.to(v_gradient.dtype.element_ty), mask=inside)


def backward_tiles(lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of packed documents for the queries' gradient and for the keys', each int32 [tiles, 3].

    As `query_tiles`, with the longest first: late queries visit the most keys, early keys the most queries.

    Args:
        lengths: tokens of each document.
    """
    tiles = query_tiles(lengths, BLOCK)
    return tiles, tiles[np.argsort(tiles[:, 0] - tiles[:, 2], kind="stable")]


def varlen_attention_backward(
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
    """Gradients of query, key and value, each in the shape of what it is the gradient of.

    Args:
        gradient: [T, H, D], of the output.
        query: [T, H, D]; key, value: [T, KV, D].
        output: [T, H, D], of the forward pass.
        log_sums: float32 [H, T], what the forward pass kept.
        query_tiles, key_tiles: `backward_tiles` of the documents, on the device. Tokens in no tile get
            undefined gradients.
        scale: factor of the logits.
    """
    tokens, heads, size = query.shape
    group = heads // key.shape[1]
    block_size = max(16, triton.next_power_of_2(size))
    d_query, d_key, d_value = (tensor.new_empty(tensor.shape) for tensor in (query, key, value))
    products = torch.empty_like(log_sums)

    def blocks(states: torch.Tensor, tokens_at_once: int) -> TensorDescriptor:
        return described(states.transpose(0, 1)[None], [1, 1, tokens_at_once, block_size])

    settings: dict[str, Any] = {
        "GROUP": group,
        "SIZE": size,
        "BLOCK_SIZE": block_size,
        "PRECISION": "tf32x3" if query.dtype == torch.float32 else "tf32",
        "num_warps": 4 if block_size <= 64 else 8,
        "num_stages": 3,
    }
    _query_gradient[(heads, len(query_tiles))](
        query, blocks(key, _KEYS_AT_ONCE), blocks(value, _KEYS_AT_ONCE), output, gradient,
        log_sums, products, d_query, query_tiles,
        query.stride(1), query.stride(0), output.stride(1), output.stride(0),
        gradient.stride(1), gradient.stride(0), d_query.stride(1), d_query.stride(0),
        tokens, scale * LOG2_E, scale, BLOCK_Q=BLOCK, BLOCK_K=_KEYS_AT_ONCE, **settings,
    )  # fmt: skip
    _key_gradients[(heads // group, len(key_tiles))](
        blocks(query, _QUERIES_AT_ONCE), key, value, blocks(gradient, _QUERIES_AT_ONCE),
        log_sums, products, d_key, d_value, key_tiles,
        key.stride(1), key.stride(0), value.stride(1), value.stride(0),
        d_key.stride(1), d_key.stride(0), d_value.stride(1), d_value.stride(0),
        tokens, scale * LOG2_E, scale, BLOCK_Q=_QUERIES_AT_ONCE, BLOCK_K=BLOCK, **settings,
    )  # fmt: skip
    return d_query, d_key, d_value
