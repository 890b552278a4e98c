"""Cross-entropy and entropy straight from the last hidden states, as one Triton kernel.

The output projection is multiplied tile by tile and each tile of logits is folded into running sums
while it is still in registers, in float32: logits never exist in memory. With e = exp(l - max),
log Z = max + log sum e, and the entropy is log Z - (sum e l) / (sum e): both from one pass.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _fold(
    states, weight, weight_at, bias, targets, losses, entropies, rows, vocabulary, w_row,
    HIDDEN: tl.constexpr, BIAS: tl.constexpr, WHOLE: tl.constexpr, FLATTEN: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    first_row = tl.program_id(0) * BLOCK_R
    row = first_row + tl.arange(0, BLOCK_R)
    target = tl.load(targets + row, mask=row < rows, other=0)
    chosen = tl.zeros([BLOCK_R], tl.float32)
    for h in range(0, HIDDEN, BLOCK_H):
        lane = h + tl.arange(0, BLOCK_H)
        x = states.load([first_row, h]).to(tl.float32)
        w = tl.load(
            weight_at + target[:, None] * w_row + lane[None, :], mask=(lane < HIDDEN)[None, :], other=0.0
        )
        chosen += tl.sum(x * w.to(tl.float32), 1)
    if BIAS:
        chosen += tl.load(bias + target).to(tl.float32)
    most = tl.full([BLOCK_R], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_R], tl.float32)
    weighted = tl.zeros([BLOCK_R], tl.float32)
    for first in tl.range(0, vocabulary, BLOCK_V, flatten=FLATTEN):
        logits = tl.zeros([BLOCK_R, BLOCK_V], tl.float32)
        for h in range(0, HIDDEN, BLOCK_H):
            x = states.load([first_row, h])
            logits = tl.dot(x, weight.load([first, h]).T, logits, input_precision=PRECISION)
        column = first + tl.arange(0, BLOCK_V)
        if BIAS:
            logits += tl.load(bias + column, mask=column < vocabulary, other=0.0).to(tl.float32)[None, :]
        if not WHOLE:
            # Not -inf: the sum below multiplies it by zero.
            logits = tl.where((column < vocabulary)[None, :], logits, -1e30)
        higher = tl.maximum(most, tl.max(logits, 1))
        e = tl.exp2((logits - higher[:, None]) * _LOG2_E)
        fade = tl.exp2((most - higher) * _LOG2_E)
        total = total * fade + tl.sum(e, 1)
        weighted = weighted * fade + tl.sum(e * logits, 1)
        most = higher
    log_z = most + tl.log(total)
    tl.store(losses + row, log_z - chosen, mask=row < rows)
    tl.store(entropies + row, log_z - weighted / total, mask=row < rows)


def linear_losses(
    states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and entropy of each row.

    Args:
        states: [rows, hidden]; weight: [vocabulary, hidden]; bias: [vocabulary] or None.
        targets: int64 [rows].

    Returns:
        Negative log-likelihood of each target and entropy of each prediction, float32 [rows], nats.
    """
    rows, hidden = states.shape
    vocabulary = weight.shape[0]
    exact = states.dtype == torch.float32
    losses = torch.empty(rows, dtype=torch.float32, device=states.device)
    entropies = torch.empty_like(losses)
    # Measured on an H100: with a short inner product the next tile's loads must start before this
    # tile is folded (`flatten`); with a long one, more loads in flight do better.
    short = hidden < 1024
    columns, lanes = (64, 32) if exact else (256, 64)
    _fold[(triton.cdiv(rows, 128),)](
        TensorDescriptor.from_tensor(states, [128, lanes]),
        TensorDescriptor.from_tensor(weight, [columns, lanes]),
        weight, weight if bias is None else bias, targets, losses, entropies,
        rows, vocabulary, weight.stride(0),
        HIDDEN=hidden, BIAS=bias is not None, WHOLE=vocabulary % columns == 0, FLATTEN=short and not exact,
        BLOCK_R=128, BLOCK_V=columns, BLOCK_H=lanes, PRECISION="tf32x3" if exact else "tf32",
        num_warps=8, num_stages=2 if exact else 3 if short else 4,
    )  # fmt: skip
    return losses, entropies
