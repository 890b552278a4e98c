"""The GPU kernels against float64 formulas; without a GPU, through Triton's interpreter."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from airlab.kernels.linear_losses import linear_losses
from airlab.kernels.swiglu import fused_swiglu
from airlab.kernels.varlen_attention import (
    QUERY_BLOCKS,
    UNIFORM,
    ZERO,
    query_block,
    query_tiles,
    varlen_attention,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTHS = [5, 130, 1, 64, 128, 201]
TOKENS = sum(LENGTHS)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def attend(query, key, value, mask, window=None, lengths=LENGTHS):
    tiles = torch.from_numpy(query_tiles(lengths, query_block(query.shape[-1]))).to(DEVICE)
    return varlen_attention(query, key, value, mask, tiles, 0.3, window)


def explicit(query, key, value, mask, window=None, lengths=LENGTHS):
    """Attention as matrices, one document, row and head at a time, in float64; [B, T, H, Dv]."""
    batch, heads, tokens, _ = query.shape
    output = torch.zeros(batch, tokens, heads, value.shape[-1], dtype=torch.float64, device=query.device)
    shared = heads // key.shape[1]
    start = 0
    for n in lengths:
        here = slice(start, start + n)
        distance = torch.arange(n)[:, None] - torch.arange(n)[None, :]
        visible = ((distance >= 0) & (distance < (window or n))).to(query.device)
        for b in range(batch):
            for h in range(heads):
                k, v = key[b, h // shared, here].double(), value[b, h // shared, here].double()
                logits = query[b, h, here].double() @ k.T * 0.3
                if mask[b, h] == UNIFORM:
                    logits = torch.zeros_like(logits)
                shares = logits.masked_fill(~visible, -math.inf).softmax(-1)
                output[b, here, h] = 0 if mask[b, h] == ZERO else shares @ v
        start += n
    return output


SHAPES = {
    "grouped": (16, 16, 4, 2, None),
    "one head each": (64, 64, 2, 2, None),
    "wide": (128, 128, 2, 1, None),
    "no power of two": (24, 24, 3, 3, None),
    "unaligned": (10, 10, 2, 1, None),
    "values of another size": (24, 16, 2, 2, None),
    "sliding": (16, 16, 3, 1, 50),
    "sliding less than a tile": (16, 16, 3, 3, 7),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_attention_equals_the_explicit_matrix(shape):
    size, value_size, heads, kv_heads, window = shape
    query, key = drawn(0, 2, heads, TOKENS, size), drawn(1, 2, kv_heads, TOKENS, size)
    value = drawn(2, 2, kv_heads, TOKENS, value_size)
    mask = torch.zeros(2, heads, dtype=torch.int8, device=DEVICE)
    mask[1, 0], mask[1, 1] = UNIFORM, ZERO
    ours = attend(query, key, value, mask, window)
    torch.testing.assert_close(ours.double(), explicit(query, key, value, mask, window), rtol=1e-5, atol=1e-5)


def test_attention_reads_slices_of_a_merged_projection():
    whole = drawn(0, 1, TOKENS, 4 * 16)
    query, key, value = (
        x.unflatten(-1, (-1, 16)).transpose(1, 2) for x in whole.split([2 * 16, 16, 16], dim=-1)
    )
    mask = torch.zeros(1, 2, dtype=torch.int8, device=DEVICE)
    torch.testing.assert_close(
        attend(query, key, value, mask).double(), explicit(query, key, value, mask), rtol=1e-5, atol=1e-5
    )


def test_a_document_gets_the_same_bits_wherever_it_is_packed():
    query, key, value = (drawn(i, 1, 2, TOKENS, 16) for i in range(3))
    mask = torch.zeros(1, 2, dtype=torch.int8, device=DEVICE)
    together = attend(query, key, value, mask)
    start = 0
    for n in LENGTHS:
        alone = (x[:, :, start : start + n].contiguous() for x in (query, key, value))
        assert torch.equal(together[:, start : start + n], attend(*alone, mask, lengths=[n]))
        start += n


def test_tiles_that_are_left_over_do_nothing():
    query, key, value = (drawn(i, 1, 2, TOKENS, 16) for i in range(3))
    mask = torch.zeros(1, 2, dtype=torch.int8, device=DEVICE)
    tiles = torch.from_numpy(query_tiles(LENGTHS, query_block(16))).to(DEVICE)
    padded = torch.cat([tiles, torch.zeros(5, 3, dtype=torch.int32, device=DEVICE)])
    assert torch.equal(
        varlen_attention(query, key, value, mask, tiles, 0.3, None),
        varlen_attention(query, key, value, mask, padded, 0.3, None),
    )


@pytest.mark.parametrize("block", QUERY_BLOCKS)
@pytest.mark.parametrize("seed", range(5))
def test_tiles_cover_every_token_once_with_its_own_document(block, seed):
    lengths = np.random.default_rng(seed).integers(1, 4 * block, 20)
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(20), lengths)
    covered = []
    for first, start, end in query_tiles(lengths, block):
        here = np.arange(first, min(first + block, end))
        assert len(here) > 0
        assert (start, end) == (ends[owner[first]] - lengths[owner[first]], ends[owner[first]])
        covered += here.tolist()
    assert sorted(covered) == list(range(ends[-1]))
    assert len(query_tiles(lengths, block)) <= ends[-1] // block + 20


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("rows", "hidden", "vocabulary"), [(200, 80, 300), (128, 64, 512), (5, 1032, 97)])
def test_losses_and_entropies_equal_the_formulas(rows, hidden, vocabulary, bias):
    states, weight = drawn(0, rows, hidden), drawn(1, vocabulary, hidden)
    offset = drawn(2, vocabulary) if bias else None
    targets = torch.arange(rows, device=DEVICE) * 7 % vocabulary
    losses, entropies = linear_losses(states, weight, offset, targets)
    logits = states.double() @ weight.double().T + (offset.double() if bias else 0)
    log_p = logits.log_softmax(-1)
    torch.testing.assert_close(losses.double(), -log_p[torch.arange(rows), targets], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(entropies.double(), -(log_p.exp() * log_p).sum(-1), rtol=1e-5, atol=1e-4)


def test_very_negative_logits_are_not_lost_to_columns_past_the_end():
    states, weight = torch.ones(4, 16, device=DEVICE), torch.full((70, 16), -10.0, device=DEVICE)
    losses, entropies = linear_losses(states, weight, None, torch.arange(4, device=DEVICE))
    expected = torch.full((4,), math.log(70), device=DEVICE)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(entropies, expected)


@pytest.mark.parametrize(("rows", "hidden", "width"), [(130, 80, 200), (7, 1024, 24)])
def test_swiglu_equals_its_formula(rows, hidden, width):
    dtype = torch.float16
    inputs, gate, up = (drawn(i, n, hidden).to(dtype) for i, n in enumerate((rows, width, width)))
    ours = fused_swiglu(inputs.view(1, rows, hidden), gate, up)
    gated, lifted = inputs.double() @ gate.double().T, inputs.double() @ up.double().T
    wanted = gated / (1 + (-gated).exp()) * lifted
    assert ours.shape == (1, rows, width)
    torch.testing.assert_close(ours[0].double(), wanted, rtol=1e-2, atol=1e-2)
