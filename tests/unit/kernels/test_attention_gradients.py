"""The gradients of packed attention against float64 formulas; without a GPU, through the interpreter."""

import pytest
import torch

pytest.importorskip("triton")

from airlab.kernels.varlen_attention_backward import BLOCK, backward_tiles
from airlab.training.document_attention import attention_tiles, document_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LENGTHS = [5, BLOCK + 2, 1, BLOCK, 201]
TOKENS = sum(LENGTHS)

SHAPES = {
    "one head each": (32, 2, 2),
    "grouped": (16, 4, 2),
    "one key head": (16, 3, 1),
    "size that is no power of two": (24, 2, 1),
}


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE).requires_grad_()


def tiles_of(lengths: list[int], size: int) -> list[torch.Tensor]:
    return [torch.from_numpy(tiles.copy()).to(DEVICE) for tiles in attention_tiles(lengths, size)]


def explicit(query, key, value, lengths=LENGTHS):
    """Attention as matrices, one document after the other, in float64."""
    shared = query.shape[1] // key.shape[1]
    parts = []
    for q, k, v in zip(*(tensor.double().split(lengths) for tensor in (query, key, value)), strict=True):
        k, v = (tensor.repeat_interleave(shared, dim=1) for tensor in (k, v))
        logits = torch.einsum("qhd,khd->hqk", q, k) * 0.3
        hidden = torch.ones(len(q), len(q), dtype=torch.bool, device=q.device).triu(1)
        parts.append(torch.einsum("hqk,khd->qhd", logits.masked_fill(hidden, -torch.inf).softmax(-1), v))
    return torch.cat(parts)


@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_are_those_of_float64(shape):
    size, heads, kv_heads = SHAPES[shape]
    states = drawn(0, TOKENS, heads, size), drawn(1, TOKENS, kv_heads, size), drawn(2, TOKENS, kv_heads, size)
    above = drawn(3, TOKENS, heads, size).detach()
    output = document_attention(*states, tiles_of(LENGTHS, size), 0.3)
    expected = explicit(*states)
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=1e-5)
    gradients = torch.autograd.grad(output, states, above)
    for found, wanted in zip(gradients, torch.autograd.grad(expected, states, above.double()), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=5e-5)


def test_heads_may_lie_inside_a_wider_tensor():
    """Queries, keys and values come out of one matrix product."""
    together = drawn(0, TOKENS, 4 * 16)
    above = drawn(1, TOKENS, 2, 16).detach()
    apart = [part.unflatten(-1, (-1, 16)) for part in together.split((32, 16, 16), dim=-1)]
    output = document_attention(*apart, tiles_of(LENGTHS, 16), 0.3)
    (found,) = torch.autograd.grad(output, together, above)
    (wanted,) = torch.autograd.grad(explicit(*apart), together, above.double())
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-5)


def test_gradients_do_not_depend_on_what_a_document_is_packed_with():
    size = 16
    alone = [drawn(seed, 201, heads, size) for seed, heads in enumerate((4, 2, 2))]
    above = drawn(3, 201, 4, size).detach()
    wanted = torch.autograd.grad(document_attention(*alone, tiles_of([201], size), 0.3), alone, above)
    packed = [torch.cat([drawn(9, 70, *t.shape[1:]), t, drawn(8, 30, *t.shape[1:])]) for t in alone]
    above = torch.cat([drawn(7, 70, 4, size), above, drawn(6, 30, 4, size)]).detach()
    output = document_attention(*packed, tiles_of([70, 201, 30], size), 0.3)
    for found, expected in zip(torch.autograd.grad(output, packed, above), wanted, strict=True):
        assert torch.equal(found[70:271], expected)


def test_tiles_cover_every_token_once_and_the_longest_work_comes_first():
    for tiles, work in zip(
        backward_tiles(LENGTHS), (lambda t: t[:, 0] - t[:, 1], lambda t: t[:, 2] - t[:, 0]), strict=True
    ):
        covered = [at for first, _, end in tiles for at in range(first, min(first + BLOCK, end))]
        assert sorted(covered) == list(range(TOKENS))
        assert (work(tiles)[:-1] >= work(tiles)[1:]).all()


def test_compiled_graphs_see_the_true_shapes():
    states = [drawn(seed, TOKENS, heads, 16).detach() for seed, heads in enumerate((4, 2, 2))]
    tiles = tiles_of(LENGTHS, 16)
    arguments = (*states, *tiles, 0.3)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    torch.library.opcheck(torch.ops.airlab.document_attention.default, arguments, test_utils=checks)
    output, log_sums = torch.ops.airlab.document_attention(*arguments)
    torch.library.opcheck(
        torch.ops.airlab.document_attention_backward.default,
        (output, *states, output, log_sums, *tiles[1:], 0.3),
        test_utils=checks[:2],
    )
